"""``twistd jobtracker`` and ``twistd tasktracker``."""
