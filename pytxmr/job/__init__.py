"""What a user writes: job modules and classes, their parameters, counters and status."""
