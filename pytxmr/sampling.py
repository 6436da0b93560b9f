"""A sample of the keys of a job, for a `RangePartitioner`.

The mapper runs over some places of what the job reads. Who submits the job does that, unless what
it reads is yet to be made by other steps: then each worker does, before its first attempt. All find
the same, since what a step has stored does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pytxmr.model import FileRange, InputSplit, JobFunctions
from pytxmr.records.codec import pack_column
from pytxmr.records.mapping import sample_keys
from pytxmr.records.order import sort_key
from pytxmr.records.pairfile import PairReader, SamplingReader
from pytxmr.storage.inputs import InputFile, list_inputs

#: Places of the input, and how much of it from each.
_PLACES = 64
_PLACE_BYTES = 16 * 1024
#: As many keys from each place at the most, and in the sample.
_KEYS = 2000
_MOST_BYTES = 512 * 1024
#: Of what steps have stored: pairs from each place.
_PAIRS = 128

#: A file, and the functions that map it.
Read = tuple[JobFunctions, InputFile]


def sample_of(functions: JobFunctions, inputs: Iterable[tuple[str, int]]) -> bytes:
    """Sorted keys from evenly spaced places of the inputs, packed. ``inputs``: each with the number
    of the source that it belongs to. Raises `BadInput`."""
    sources = functions.sources or (functions,)
    return _sample(
        [(sources[source], file) for path, source in inputs for file in list_inputs([path])]
    )


def _sample(read: Sequence[Read]) -> bytes:
    keys: list[Any] = []
    for functions, split, most in _places([one for one in read if one[1].size_bytes]):
        keys += sample_keys(functions, split, most)
    keys.sort(key=sort_key)
    while True:
        keys = keys[:: len(keys) // _KEYS + 1]
        packed = pack_column(keys)
        if len(packed) <= _MOST_BYTES or len(keys) < 2:
            return packed
        keys = keys[::2]


def _places(read: Sequence[Read]) -> Iterator[tuple[JobFunctions, InputSplit, int]]:
    """What to map for the sample, and how many keys to take of that at the most."""
    step = max(1, sum(file.size_bytes for _, file in read) // _PLACES)
    at = 0
    for functions, file in read:
        if type(functions.reader) is PairReader:
            reader = SamplingReader(at, step, _PAIRS)
            yield (
                replace(functions, reader=reader),
                _split(file, 0, file.size_bytes),
                _PLACES * _KEYS,
            )
        else:
            for start in range(-at % step, file.size_bytes, step):
                end = min(file.size_bytes, start + min(step, _PLACE_BYTES))
                yield functions, _split(file, start, end), _KEYS
        at += file.size_bytes


def _split(file: InputFile, start: int, end: int) -> InputSplit:
    return InputSplit((FileRange(file.path, start, end),))
