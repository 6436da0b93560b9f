"""An inverted index: for each word, the sorted list of the documents that it occurs in.

pytxmr run examples/inverted_index.py examples/data/documents.tsv --output out

A line is a document's id, a tab, and text of that document, which may go on in other lines.
"""

import re

import pytxmr

WORD = re.compile(r"\w+")


def mapper(key, value):
    document, tab, text = value.partition("\t")
    if not tab:
        pytxmr.counter("bad lines")
        return
    for word in set(WORD.findall(text.lower())):
        yield word, document


def combiner(key, values):
    for document in set(values):
        yield key, document


def reducer(key, values):
    yield key, sorted(set(values))
