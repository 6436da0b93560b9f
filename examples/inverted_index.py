"""An inverted index: for each word, the sorted list of the documents that it occurs in.

pytxmr run examples/inverted_index.py examples/data/documents.tsv --output out

A line is a document's id, a tab, and text of that document, which may go on in other lines.
"""

import re

import pytxmr
from pytxmr import folds

WORD = re.compile(r"\w+")


def mapper(key, value):
    document, tab, text = value.partition("\t")
    if not tab:
        pytxmr.counter("bad lines")
        return
    for word in set(WORD.findall(text.lower())):
        yield word, document


combiner = folds.distinct  # makes a set of the values of a key


def reducer(key, values):  # values: sets
    yield key, sorted(set().union(*values))
