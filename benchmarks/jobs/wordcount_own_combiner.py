"""Word count with the combiner and the reducer as a user would write them."""


def mapper(offset, line):
    for word in line.split():
        yield word, 1


def combiner(word, counts):
    yield word, sum(counts)


reducer = combiner
