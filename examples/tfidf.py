"""The words that tell a document from the others: those with the highest TF-IDF.

python examples/tfidf.py examples/data/documents.tsv out

A line is a document's id, a tab, and text of that document, which may go on in other lines. A word
weighs as much as its share of the words of the document, times the logarithm of how many documents
there are for each that has it. The result is ``out/best``: a document, then its three best words.

Three jobs, each of which reads what the one before it has put out. ``writers.msgpack`` keeps the
types, so that a tuple is a tuple for the next mapper.
"""

import math
import re
import sys
from collections import Counter

import pytxmr
from pytxmr import folds, readers, writers


class Documents(pytxmr.MapReduce):
    """Counts the words of each document."""

    write = writers.msgpack

    def map(self, key, value):
        document, tab, text = value.partition("\t")
        words = re.findall(r"[^\W\d_]+", text.lower())
        if words:
            yield document, dict(Counter(words))

    def reduce(self, document, counts):
        total = Counter()
        for some in counts:
            total.update(some)
        yield document, dict(total)


class Weights(pytxmr.MapReduce):
    """Weighs each word of each document."""

    params = {"documents": 0}
    read = readers.msgpack
    write = writers.msgpack

    def map(self, document, counts):
        total = sum(counts.values())
        for word, count in counts.items():
            yield word, (document, count / total)

    def reduce(self, word, shares):
        found = list(shares)  # one for each document that has the word
        rarity = math.log(self.params["documents"] / len(found))
        for document, share in found:
            yield document, (share * rarity, word)


class Best(pytxmr.MapReduce):
    """Keeps the three words of each document that weigh the most."""

    read = readers.msgpack
    write = writers.json

    def map(self, document, weighed):
        yield document, weighed

    reduce = folds.top(3)


if __name__ == "__main__":
    text, out = sys.argv[1:]
    counted = pytxmr.run(Documents, text, f"{out}/documents")
    documents = counted.totals["reduce output records"]
    pytxmr.run(Weights, counted.output, f"{out}/weights", params={"documents": documents})
    pytxmr.run(Best, f"{out}/weights", f"{out}/best")
