"""An inverted index: each word with the offsets of the lines that it is in; no combiner."""


def mapper(offset, line):
    for word in set(line.split()):
        yield word, offset


def reducer(word, offsets):
    # Values come in no order that a job may rely on; the index wants them ascending.
    yield word, " ".join(map(str, sorted(offsets)))
