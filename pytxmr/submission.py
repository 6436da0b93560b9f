"""A job as it was submitted: what is to be done, on which input, for which output."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any, Self

from pytxmr.model import InputSplit, JobSpec, job_id, take
from pytxmr.plan.events import JobSubmitted
from pytxmr.storage.inputs import (
    MOST_FILES_PER_SPLIT,
    REUSED_SPLIT_BYTES,
    CutWhereItMay,
    InputFile,
    cut_at,
    cut_nowhere,
    even_split_bytes,
    list_inputs,
    plan_splits,
)
from pytxmr.storage.output import OutputDirectory


@dataclass(frozen=True, slots=True)
class Submission:
    """``owner`` marks the job's output, ``key`` signs requests for what its maps put out;
    ``submitted_at`` is in seconds since 1970. ``uncut`` files are one split each, though large.
    """

    number: int
    spec: JobSpec
    splits: list[InputSplit]
    owner: str
    key: bytes = field(repr=False)
    submitted_at: float
    uncut: int = 0

    @property
    def job(self) -> str:
        return job_id(self.number)

    def event(self) -> JobSubmitted:
        """What the plan is told."""
        return JobSubmitted(
            self.job,
            len(self.splits),
            self.spec.reducers,
            self.spec.max_attempts,
            self.spec.keep,
            self.spec.speculate,
            self.spec.skip_bad_records,
        )

    def to_plain(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "spec": self.spec.to_plain(),
            "splits": [split.to_plain() for split in self.splits],
            "owner": self.owner,
            "key": self.key,
            "submitted_at": self.submitted_at,
            "uncut": self.uncut,
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        return cls(
            take(plain, "number", int),
            JobSpec.from_plain(take(plain, "spec", dict)),
            [InputSplit.from_plain(split) for split in take(plain, "splits", list)],
            take(plain, "owner", str),
            take(plain, "key", bytes),
            take(plain, "submitted_at", float),
            take(plain, "uncut", int),
        )


def plan_job(spec: JobSpec, output: OutputDirectory, workers: int) -> tuple[list[InputSplit], int]:
    """Look at the input, remove what the output replaces, and reserve it; the splits, and how many
    of the files were to be cut and cannot be. Raises `BadInput`."""
    sources: dict[int, list[InputFile]] = {}
    for path, source in zip(spec.inputs, spec.sources or repeat(0), strict=False):
        sources.setdefault(source, []).extend(list_inputs([path]))
    total = sum(file.size_bytes for files in sources.values() for file in files)
    if spec.reuse is None:
        split_bytes = spec.split_bytes or even_split_bytes(total, workers)
        cut, most_files = CutWhereItMay(), MOST_FILES_PER_SPLIT
    else:
        split_bytes = spec.split_bytes or REUSED_SPLIT_BYTES
        cut, most_files = CutWhereItMay(cut_at(split_bytes)), 1
    splits = [
        replace(split, source=source) if source else split
        for source, files in sources.items()
        for split in plan_splits(
            files, split_bytes, cut_nowhere if spec.whole_files else cut, most_files
        )
    ]
    if spec.reuse is not None:
        from pytxmr.storage.kept import KeptResults  # few jobs want it

        KeptResults(spec.reuse).make()
    for path in spec.replaces:
        earlier = OutputDirectory(path, "")
        earlier.discard(earlier.manifest().get("job", ""))
    output.reserve()
    return splits, cut.whole


def forget_unused(spec: JobSpec) -> None:
    """When a job has succeeded that keeps its results: remove those that no job uses any more."""
    if spec.reuse is not None:
        from pytxmr.storage.kept import KeptResults

        KeptResults(spec.reuse).forget_unused()


def manifest_of(job: str, spec: JobSpec, counters: dict[str, int]) -> dict[str, Any]:
    """What ``_SUCCESS`` says of a job, but for its files."""
    return {
        "job": job,
        "name": spec.name,
        "source_sha256": spec.code.digest,
        "params_sha256": params_digest(spec.params),
        "counters": counters,
    }


def params_digest(params: dict[str, Any]) -> str:
    """The same for the same parameters."""
    return hashlib.sha256(repr(sorted(params.items())).encode("utf-8", "replace")).hexdigest()
