"""The sessions of each host: its requests in order, cut where it was silent for a while.

pytxmr run examples/sessions.py examples/data/access.log --output out
pytxmr run examples/sessions.py examples/data/access.log --output out -D minutes=10

A line of the result is a host, then the start of a session, its seconds and its requests. The
requests of one host have to fit in memory. Lines of another form are counted as "bad lines".
"""

import re
from datetime import datetime, timedelta

import pytxmr

params = {"minutes": 30}

LOG_LINE = re.compile(r'(\S+) \S+ \S+ \[([^]]+)\] "[A-Z]+ \S')


def mapper(key, value):
    match = LOG_LINE.match(value)
    if match:
        host, time = match.groups()
        yield host, datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z")
    else:
        pytxmr.counter("bad lines")


def reducer(host, times):
    silence = timedelta(minutes=pytxmr.params["minutes"])
    session = []
    for time in sorted(times):
        if session and time - session[-1] > silence:
            yield host, summary(session)
            session = []
        session.append(time)
    yield host, summary(session)


def summary(session):
    seconds = (session[-1] - session[0]).total_seconds()
    return session[0].isoformat(), int(seconds), len(session)
