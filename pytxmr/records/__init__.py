"""The data path: records in, sorted spills between, records out. Pure and synchronous."""
