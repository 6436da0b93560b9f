"""The term vector of each host: the most frequent words of its pages, with their counts.

pytxmr run examples/term_vector.py examples/data/pages.tsv --output out
pytxmr run examples/term_vector.py examples/data/pages.tsv --output out -D terms=3

A line is a page's URL, a tab, and the page's text. Words that are equally frequent are listed in
alphabetical order.
"""

import re
from collections import Counter
from urllib.parse import urlsplit

import pytxmr

params = {"terms": 10}

WORD = re.compile(r"[^\W\d_]+")


def mapper(key, value):
    url, tab, text = value.partition("\t")
    try:
        host = urlsplit(url).hostname
    except ValueError:  # such as http://[half-an-address
        host = None
    if tab and host:
        yield host, dict(Counter(WORD.findall(text.lower())))
    else:
        pytxmr.counter("bad lines")


def merged(vectors):
    total = Counter()
    for vector in vectors:
        total.update(vector)
    return total


def combiner(key, values):
    # Merge, but do not cut: a word that is rare here may be the host's most frequent one.
    yield key, dict(merged(values))


def reducer(key, values):
    by_rank = sorted(merged(values).items(), key=lambda term: (-term[1], term[0]))
    yield key, by_rank[: pytxmr.params["terms"]]
