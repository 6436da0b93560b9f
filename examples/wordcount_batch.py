"""How often each word occurs, as in wordcount.py, but counted by compiled code.

pip install '.[batch]'
pytxmr run examples/wordcount_batch.py examples/data/warandpeace.txt --output out

Arrow counts pieces of text, some millions at a time: what is between two blanks, equal if its bytes
are. What is a word, and of which case, is asked of Python, and only once for each distinct piece.
So the output is that of wordcount.py to the byte.
"""

import numpy
import pyarrow

import pytxmr
from pytxmr import folds

BLANKS = b"\t\n\v\f\r "
TO_SPACE = bytes.maketrans(BLANKS, b" " * len(BLANKS))


@pytxmr.batch("buffer")
def mapper(offset, data):  # data: bytes, whole lines as they lie in the file, some 32 MiB
    found, counts = cut(data.translate(TO_SPACE)).value_counts().flatten()
    for piece, count in zip(found.to_pylist(), counts.to_pylist(), strict=True):
        # One word; or none, or several if there is whitespace of another kind, such as U+00A0.
        for word in piece.decode("utf-8", "surrogateescape").split():
            yield word.lower(), count


def cut(data):
    """Cut at the spaces, without a copy: each piece goes from one edge to the next."""
    is_edge = numpy.ones(len(data) + 1, bool)  # the two ends are edges in any case
    numpy.equal(numpy.frombuffer(data, numpy.uint8)[:-1], ord(" "), out=is_edge[1:-1])
    edges = numpy.flatnonzero(is_edge)
    buffers = [None, pyarrow.py_buffer(edges), pyarrow.py_buffer(data)]
    return pyarrow.Array.from_buffers(pyarrow.large_binary(), len(edges) - 1, buffers)


reducer = folds.sum
