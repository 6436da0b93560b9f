"""How often each word occurs, whatever its case; words are what whitespace separates.

pytxmr run examples/wordcount.py examples/data/warandpeace.txt --output out
"""


def mapper(key, value):
    for word in value.split():
        yield word.lower(), 1


def reducer(key, values):
    yield key, sum(values)


combiner = reducer
