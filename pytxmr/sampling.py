"""A sample of the keys of a job, for a `RangePartitioner`: taken by whoever submits it.

The mapper runs over some places of what the job reads. For a step that reads what others have
stored, that is when these have ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pytxmr.job import context, loading
from pytxmr.model import FileRange, InputSplit, JobFunctions, JobSpec
from pytxmr.net.limits import DEFAULT_MEMORY_BYTES
from pytxmr.records import kinds
from pytxmr.records.codec import pack_column, use_pickle
from pytxmr.records.mapping import sample_keys
from pytxmr.records.order import sort_key
from pytxmr.records.pairfile import PairReader, SamplingReader
from pytxmr.storage.inputs import InputFile, list_inputs
from pytxmr.worker import bind_sides

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


def with_sample(spec: JobSpec, functions: JobFunctions) -> JobSpec:
    """The job as it can be submitted, with the keys of a sample of what it reads now."""
    sources = functions.sources or (functions,)
    read = [
        (sources[source], file)
        for path, source in zip(spec.inputs, spec.sources or (0,) * len(spec.inputs), strict=True)
        for file in list_inputs([path])
    ]
    return replace(spec, key_sample=_sample(read))


def sampled_anew(spec: JobSpec) -> JobSpec:
    """The same for a step of a job, when those before it have ended."""
    with context.kept_aside():
        try:
            functions = loading.load(spec.code, spec.params, spec.step)
            bind_sides(functions, spec.sides, spec.memory_bytes or DEFAULT_MEMORY_BYTES)
            return with_sample(spec, functions)
        finally:
            kinds.declare(())
            use_pickle(False)


def _sample(read: Sequence[Read]) -> bytes:
    """The sorted keys from evenly spaced places of the files, packed."""
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
