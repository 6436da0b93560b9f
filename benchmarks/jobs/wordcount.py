"""Word count: a generator as mapper, a ready-made fold as combiner and reducer."""

from pytxmr import folds


def mapper(offset, line):
    for word in line.split():
        yield word, 1


combiner = reducer = folds.sum
