"""A whole cluster in one process, on a virtual clock and an in-memory network, driven by one seed.

Jobtracker, tasktrackers, stores, fetchers and Perspective Broker are the real ones; simulated are
time, the network, threads, and the processes in which attempts run. See docs/simulation.md.
"""
