"""A job as it was submitted: what is to be done, on which input, for which output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pytxmr.errors import PeerBroke
from pytxmr.model import InputSplit, JobSpec, job_id, take
from pytxmr.plan.events import JobSubmitted
from pytxmr.storage.inputs import (
    COMBINED_SPLIT_BYTES,
    REUSED_SPLIT_BYTES,
    SPLIT_BYTES,
    Cut,
    CutWhereItMay,
    InputFile,
    cut_at,
    cut_nowhere,
    even_split_bytes,
    list_inputs,
    plan_kept_splits,
    plan_splits,
)
from pytxmr.storage.output import Output
from pytxmr.storage.places import output_at


@dataclass(frozen=True, slots=True)
class Chain:
    """The jobs that one was submitted with, as the steps of a whole: the numbers of them all, and
    what those behind it are to do, in order. Each begins when the one before has succeeded."""

    numbers: tuple[int, ...] = ()
    later: tuple[JobSpec, ...] = ()

    @property
    def jobs(self) -> list[str]:
        return [job_id(number) for number in self.numbers]

    @property
    def ahead(self) -> dict[str, JobSpec]:
        """Those behind it by their ids."""
        return dict(zip(self.jobs[len(self.numbers) - len(self.later) :], self.later, strict=True))

    def to_plain(self, first: dict[str, Any]) -> dict[str, Any]:
        """``first`` is the job itself, from which the others do not differ by much."""
        return {"numbers": list(self.numbers), "later": differences(first, self.later)}

    @classmethod
    def from_plain(cls, first: dict[str, Any], plain: Any) -> Self:
        later = with_differences(first, take(plain, "later", list))
        return cls(tuple(take(plain, "numbers", list)), tuple(later))


def differences(first: dict[str, Any], others: Iterable[JobSpec]) -> list[dict[str, Any]]:
    """In what other jobs differ from a first, as plain values: source and files are the same."""
    return [
        {name: value for name, value in other.to_plain().items() if value != first[name]}
        for other in others
    ]


def with_differences(first: dict[str, Any], plain: list[Any]) -> list[JobSpec]:
    """The inverse. Raises `PeerBroke`."""
    if not all(isinstance(changed, dict) for changed in plain):
        raise PeerBroke("a following job is no dict of what is different in it")
    return [JobSpec.from_plain(first | changed) for changed in plain]


@dataclass(frozen=True, slots=True)
class Turn:
    """A job that comes next, behind one that has succeeded: not planned yet."""

    number: int
    spec: JobSpec
    owner: str
    submitted_at: float
    chain: Chain

    @property
    def job(self) -> str:
        return job_id(self.number)

    def next(self) -> Turn | None:
        """The one behind it, if there is one."""
        if not self.chain.later:
            return None
        number = self.chain.numbers[-len(self.chain.later)]
        # Nobody else has it, and who submits again what was cut short makes the same.
        owner = hashlib.sha256(f"{self.owner} is before".encode()).hexdigest()[:32]
        spec, *later = self.chain.later
        chain = Chain(self.chain.numbers, tuple(later))
        return Turn(number, spec, owner, self.submitted_at, chain)

    def to_plain(self) -> dict[str, Any]:
        spec = self.spec.to_plain()
        return {
            "number": self.number,
            "turn": spec,
            "owner": self.owner,
            "submitted_at": self.submitted_at,
            "chain": self.chain.to_plain(spec),
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        spec = take(plain, "turn", dict)
        return cls(
            take(plain, "number", int),
            JobSpec.from_plain(spec),
            take(plain, "owner", str),
            take(plain, "submitted_at", float),
            Chain.from_plain(spec, take(plain, "chain", dict)),
        )


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
    chain: Chain = Chain()

    @property
    def job(self) -> str:
        return job_id(self.number)

    @property
    def turn(self) -> Turn:
        """What it was before it was planned."""
        return Turn(self.number, self.spec, self.owner, self.submitted_at, self.chain)

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
        spec = self.spec.to_plain()
        return {
            "number": self.number,
            "spec": spec,
            "splits": [split.to_plain() for split in self.splits],
            "owner": self.owner,
            "key": self.key,
            "submitted_at": self.submitted_at,
            "uncut": self.uncut,
            "chain": self.chain.to_plain(spec),
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
            Chain.from_plain(plain["spec"], take(plain, "chain", dict)),
        )


def plan_job(
    spec: JobSpec, output: Output, workers: int, machines: int
) -> tuple[list[InputSplit], int]:
    """Look at the input, remove what the output replaces, and reserve it; the splits, and how many
    of the files were to be cut and cannot be. ``workers`` are on so many ``machines``. Raises
    `BadInput`."""
    sources: dict[int, list[InputFile]] = {}
    for path, source in spec.sourced_inputs:
        sources.setdefault(source, []).extend(list_inputs([path]))
    total = sum(file.size_bytes for files in sources.values() for file in files)
    planned: Callable[[list[InputFile], int, Cut], list[InputSplit]]
    if spec.reuse is None:
        most = COMBINED_SPLIT_BYTES if spec.combines and machines == 1 else SPLIT_BYTES
        split_bytes = spec.split_bytes or even_split_bytes(total, workers, most)
        cut, planned = CutWhereItMay(), plan_splits
    else:
        split_bytes = spec.split_bytes or REUSED_SPLIT_BYTES
        cut, planned = CutWhereItMay(cut_at(split_bytes)), plan_kept_splits
    splits = [
        replace(split, source=source) if source else split
        for source, files in sources.items()
        for split in planned(files, split_bytes, cut_nowhere if spec.whole_files else cut)
    ]
    if spec.reuse is not None:
        from pytxmr.storage.kept import KeptResults  # few jobs want it

        KeptResults(spec.reuse).make()
    for path in spec.replaces:
        earlier = output_at(path, "")
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
