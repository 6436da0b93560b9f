r"""The lines that a regular expression matches, in the order of the file, after their byte offset.

pytxmr run examples/grep.py examples/data/warandpeace.txt --output out
pytxmr run examples/grep.py examples/data/warandpeace.txt --output out -D 'pattern=\bhorses?\b'
"""

import re

import pytxmr

params = {"pattern": r"\bNapoleon\b"}

# The parts, one after the other, are in order too, however many reducers there are.
partitioner = pytxmr.RangePartitioner()


def mapper(key, value):
    if re.search(pytxmr.params["pattern"], value):
        # With several files, lines may share an offset. The values of a key come in no promised
        # order, so the line is a part of the key: that makes the output the same on every run.
        yield (key, value), None


def reducer(key, values):
    offset, line = key
    for _ in values:
        yield offset, line
