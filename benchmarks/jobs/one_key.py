"""One key with a great many values, and a reducer that takes them one by one."""

import pytxmr

params = {"values": 10_000}


def mapper(offset, line):
    first = int(line) * pytxmr.params["values"]
    for value in range(first, first + pytxmr.params["values"]):
        yield "the key", value


def reducer(key, values):
    count = total = 0
    for value in values:
        count += 1
        total += value
    yield count, total
