"""An inner join: a line for each pair of a left and a right row with the same key."""


def mapper(offset, line):
    tag, key, payload = line.split("\t")
    yield key, (tag, payload)


def reducer(key, rows):
    left = []
    right = []
    for tag, payload in rows:
        (left if tag == "L" else right).append(payload)
    for one in left:
        for other in right:
            yield key, f"{one}\t{other}"
