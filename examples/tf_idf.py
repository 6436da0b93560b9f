"""The words that tell most about each document: TF-IDF, in seven steps.

pytxmr run examples/tf_idf.py examples/data/documents.tsv --output out
pytxmr plan examples/tf_idf.py examples/data/documents.tsv

A line is the name of its document, a tab, and some of its text. A word's weight in a document is
how often it is there, times the logarithm of: documents, divided by those that have the word.
"""

import math
import re

import pytxmr
from pytxmr import pipeline

params = {"words": 3}


def named(line):
    name, tab, text = line.partition("\t")
    if tab:
        yield name, text
    else:
        pytxmr.counter("bad lines")


def words(pair):
    name, text = pair
    for word in re.findall(r"\w+", text.lower()):
        yield name, word


def weighed(pair):
    word, ((name, times), (in_documents, documents)) = pair
    return name, (times * math.log(documents / in_documents), word)


def heaviest(name, weights):
    best = sorted(weights, reverse=True)[: pytxmr.params["words"]]
    yield name, [word for weight, word in best]


texts = pipeline.input().flat_map(named)
times = texts.flat_map(words).count()  # ((document, word), times)
having = times.map(lambda pair: pair[0][1]).count()  # (word, documents that have it)
total = texts.keys().distinct().map(lambda name: "documents").count()  # ("documents", how many)
rarity = (
    having.key_by(lambda pair: "documents")
    .join(total)
    .values()
    .map(lambda both: (both[0][0], (both[0][1], both[1])))
)  # (word, (documents that have it, documents))
by_word = times.map(lambda pair: (pair[0][1], (pair[0][0], pair[1])))
output = by_word.join(rarity).map(weighed).group(heaviest)
