"""Word count by a batch mapper: whole lines as one piece of bytes, counted by Arrow."""

import pyarrow as pa
import pyarrow.compute as pc

import pytxmr
from pytxmr import folds


@pytxmr.batch("buffer")
def mapper(offset, data):
    # Space at the end would make an empty word.
    text = pa.array([data.rstrip()], pa.large_binary()).cast(pa.large_string())
    counts = pc.ascii_split_whitespace(text).flatten().value_counts()
    yield pytxmr.columns(counts.field(0).to_pylist(), counts.field(1).to_pylist())


reducer = folds.sum
