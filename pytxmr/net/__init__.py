"""Twisted adapters without policy: login, calls with deadlines, spill transfer, workers."""
