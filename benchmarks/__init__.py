"""What pytxmr costs, beside what people would otherwise use: `python -m benchmarks --help`."""
