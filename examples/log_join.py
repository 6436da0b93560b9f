"""A join of two logs: each error, with the last request that its host had made until then.

pytxmr run examples/log_join.py examples/data/access.log examples/data/errors.log --output out

A mapper sees the lines of both logs, and tells them apart by their form. What a host did has to fit
in memory. Lines of another form are counted as "bad lines".
"""

import re
from datetime import datetime

import pytxmr

REQUEST = re.compile(r'(\S+) \S+ \S+ \[([^]]+)\] "([A-Z]+ [^" ]+)')
ERROR = re.compile(r"(\S+) error \[client ([^]]+)\] (.+)")


def mapper(key, value):
    if match := ERROR.match(value):
        time, host, message = match.groups()
        # 1 sorts after 0: an error comes after a request of the same second.
        yield host, (datetime.fromisoformat(time), 1, message)
    elif match := REQUEST.match(value):
        host, time, request = match.groups()
        yield host, (datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z"), 0, request)
    else:
        pytxmr.counter("bad lines")


def reducer(host, events):
    request = "-"  # an error without any request before it
    for _, is_error, text in sorted(events):
        if is_error:
            yield host, f"{request}\t{text}"
        else:
            request = text
