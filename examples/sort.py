"""All lines in sorted order, duplicates included: the parts, one after the other, are sorted.

pytxmr run examples/sort.py examples/data/unsorted.txt --output out --reducers 3
cat out/part-*
"""

import pytxmr

# Every reducer gets a range of the lines of its own; the ranges come from a sample of the input.
partitioner = pytxmr.RangePartitioner()


def mapper(key, value):
    yield value, None


reducer = pytxmr.identity
