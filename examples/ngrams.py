"""The n-grams of a text: which n words follow each other in a line, and how often.

pytxmr run examples/ngrams.py examples/data/warandpeace.txt --output out
pytxmr run examples/ngrams.py examples/data/warandpeace.txt --output out -D n=2 -D least=100

Those that occur fewer than ``least`` times are left out.
"""

import re

import pytxmr
from pytxmr import folds

params = {"n": 3, "least": 10}

WORD = re.compile(r"[^\W\d_]+")


def mapper(key, value):
    words = WORD.findall(value.lower())
    # As many copies, each a word shorter, side by side: zip ends with the shortest.
    for ngram in zip(*(words[start:] for start in range(pytxmr.params["n"])), strict=False):
        yield " ".join(ngram), 1


combiner = folds.sum


def reducer(ngram, values):  # values: sums
    total = sum(values)
    if total >= pytxmr.params["least"]:
        yield ngram, total
