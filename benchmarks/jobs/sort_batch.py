"""All lines in order: a batch mapper, which passes them on as bytes, many at a time."""

import pytxmr

partitioner = pytxmr.RangePartitioner()


@pytxmr.batch("bytes")
def mapper(offset, lines):
    yield pytxmr.columns(lines)


reducer = pytxmr.identity
