"""All lines in sorted order, as in sort.py, but ordered as bytes, and thousands of them at a time.

pytxmr run examples/sort_batch.py examples/data/unsorted.txt --output out --reducers 3
cat out/part-*

The order is that of ``LC_ALL=C sort``. For text in UTF-8 it is the order of sort.py, too.
"""

import pytxmr

# Every reducer gets a range of the lines of its own; the ranges come from a sample of the input.
partitioner = pytxmr.RangePartitioner()


@pytxmr.batch("bytes")
def mapper(offset, lines):
    yield pytxmr.columns(lines)  # keys without values


reducer = pytxmr.identity
