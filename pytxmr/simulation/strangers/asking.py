"""Strangers who ask a tracker for what there is not, or what they may not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING

from pytxmr.net import kvserver
from pytxmr.net.secret import sign
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.network import SHUFFLE_PORT
from pytxmr.simulation.strangers.visits import (
    REFUSALS,
    SOON_SECONDS,
    Visit,
    lines_of,
    once,
    stranger,
)

if TYPE_CHECKING:
    from pytxmr.simulation.world import Site, World


def _refused(
    count: int, codes: tuple[bytes, ...], fewest: int | None = None
) -> Callable[[Visit, bytes], None]:
    """Each of so many lines is refused, with one of these codes; after ``fewest`` of them the
    connection may end."""

    def judge(visit: Visit, heard: bytes) -> None:
        lines = lines_of(heard)
        if not (fewest or count) <= len(lines) <= count or not all(
            line.startswith(codes) for line in lines
        ):
            visit.violate(f"asks {count} times, and is answered {lines}"[:1000])

    return judge


#: What is no address, or one of what there is not.
_NOWHERE = (
    "Job001@Map001",
    "Job001@Map000@0",
    "Job000@Map001@0",
    "Job001@Map001@99999",
    "Job001@Map001@-1",
    "Job001@Map001@0\0",
    "Job001@Map001@0@0",
    "Job001@Map001@\u0660",
    "Job\u0660\u0660\u0661@Map001@0",
    "Job001@Reduce000@0",
    "Job001@../Map001@0",
    "../../Job001@Map001@0",
    "Job987@Map001@0",
    "@@",
    "/etc/passwd",
)
#: Requests of trackers that are not signed, or not as they should be.
_UNSIGNED = (
    "fetch",
    "fetch Job001 Map001.0 0",
    "fetch Job001 Map001.0 0 " + "0" * 64,
    "fetch Job001 Map001.0 0 \u0660",
    "fetch Job001 ../../Map001.0 0 " + "0" * 64,
    "fetch ../../Job001 Map001.0 0 " + "0" * 64,
    "fetch Job\u0660\u0660\u0661 Map001.0 0 " + "0" * 64,
    "fetch Job987 Map001.0 0 " + "0" * 64,
)


def _asked(visit_rng: Random, lines: Iterable[str], count: int) -> bytes:
    drawn = [*visit_rng.choices(tuple(lines), k=count), "quit"]
    return b"".join(line.encode() + b"\n" for line in drawn)


@stranger(SHUFFLE_PORT)
def _asking_for_what_there_is_not(world: World, site: Site, fault: Fault) -> None:
    said = _asked(Random(fault.number), _NOWHERE, 5)
    judge = _refused(5, (b"! not-found: ", b"! spill-damaged: "))
    once(world, site, fault, SOON_SECONDS, said, beside=True, judge=judge)


@stranger(SHUFFLE_PORT)
def _asking_without_a_token(world: World, site: Site, fault: Fault) -> None:
    """From another machine; what is there is refused just as what is not."""
    said = _asked(Random(fault.number), ("jobs", "help", "Job001@Map001@0", *_NOWHERE), 5)
    once(world, site, fault, SOON_SECONDS, said, judge=_refused(5, (b"! refused: ",)))


@stranger(SHUFFLE_PORT)
def _asking_with_a_wrong_token(world: World, site: Site, fault: Fault) -> None:
    token = ("", "0" * 32, "\u0660" * 32, "x" * 5000)[fault.number % 4]
    said = f"auth {token}\njobs\njobs\n".encode()
    once(world, site, fault, SOON_SECONDS, said, judge=_refused(3, (b"! refused: ",), 1))


@stranger(SHUFFLE_PORT)
def _fetching_without_a_signature(world: World, site: Site, fault: Fault) -> None:
    said = _asked(Random(fault.number), _UNSIGNED, 5)
    judge = _refused(5, (b"! refused: ", b"! not-found: "))
    once(world, site, fault, SOON_SECONDS, said, beside=fault.number % 2 == 0, judge=judge)


@stranger(SHUFFLE_PORT)
def _fetching_what_there_is_not(world: World, site: Site, fault: Fault) -> None:
    """With the signature of a job that is known, if there is one."""
    keys = site.service.store._jobs
    job = list(keys)[fault.number % len(keys)] if keys else "Job001"
    key = site.service.store.shuffle_key(job) if keys else b"no key"
    rng = Random(fault.number)
    texts = (
        f"{job} Map987.0 0",
        f"{job} Map001.987 0",
        f"{job} Map001.0 98765",
        f"{job} Map001.0 0,98765",
        f"{job} Map001.0 ",
        f"{job} Map001.0 -1",
        f"{job} Map001.0 {','.join(['0'] * (kvserver.MOST_PARTITIONS + 1))}",
        f"{job} Reduce000.0 0",
        f"{job} ../Map001.0 0",
    )
    signed = [f"fetch {text} {sign(key, text)}" for text in texts]
    judge = _refused(3, REFUSALS)
    once(world, site, fault, SOON_SECONDS, _asked(rng, signed, 3), judge=judge)
