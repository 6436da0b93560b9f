"""How often each URL was requested, from web server logs in the Common Log Format.

pytxmr run examples/url_frequency.py examples/data/access.log --output out

Lines of another form are skipped, and counted as "bad lines".
"""

import re

import pytxmr
from pytxmr import folds

# host ident user [time] "method URL protocol" status bytes; the Combined format then goes on.
LOG_LINE = re.compile(
    r'\S+ \S+ \S+ \[[^]]+\] "[A-Z]+ (\S+)(?: HTTP/[\d.]+)?" \d{3} (?:\d+|-)(?: |$)'
)


def mapper(key, value):
    match = LOG_LINE.match(value)
    if match:
        yield match[1], 1
    else:
        pytxmr.counter("bad lines")


reducer = folds.sum
