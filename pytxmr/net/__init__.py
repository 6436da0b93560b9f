"""Twisted adapters without policy: calls with deadlines, login, spill transfer, worker processes."""
