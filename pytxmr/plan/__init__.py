"""Every decision of the jobtracker, as pure functions of events: no clock, no network, no files."""
