"""How many requests of an access log each owner of a host made, without shuffling the log by host.

pytxmr run examples/traffic.py examples/data/access.log hosts=examples/data/hosts.tsv --output out

Each worker holds the table of hosts in memory, a line each with its owner after a tab, and looks
up the host of each request. Requests of hosts that are not there are "unknown". Lines of another
form are counted as "bad lines".
"""

import re

import pytxmr
from pytxmr import pipeline

REQUEST = re.compile(r'(\S+) \S+ \S+ \[[^]]+\] "([A-Z]+ [^" ]+)')


def request(line):
    if match := REQUEST.match(line):
        yield match.groups()
    else:
        pytxmr.counter("bad lines")


def row(line):
    host, owner = line.split("\t")
    return host, owner


hosts = pipeline.input("hosts").map(row)
requests = pipeline.input().flat_map(request)
owned = requests.join(hosts, how="left", broadcast=True)
output = owned.values().map(lambda both: both[1] or "unknown").count()
