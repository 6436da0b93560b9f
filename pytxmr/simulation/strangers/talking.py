"""Strangers who speak Perspective Broker: with a wrong secret, or to do harm with the right one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any

from pytxmr.client import new_owner
from pytxmr.errors import InternalError, PytxmrError, Refused, TooLarge, Unreachable
from pytxmr.net import broker, remote
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.network import CONTROL_PORT
from pytxmr.simulation.strangers.garbage import BOMBS
from pytxmr.simulation.strangers.visits import (
    SOON_SECONDS,
    SPARE_SECONDS,
    HungUp,
    Visit,
    log_in,
    stranger,
)

if TYPE_CHECKING:
    from pytxmr.simulation.world import Site, World

#: What is promised to hold, whatever becomes of these names.
_DEAF_SECONDS = broker.STALL_SECONDS

_Conversation = Callable[["World", "Site", Fault, Visit], Coroutine[Any, Any, None]]


def _conversing(seconds: float, slow: bool = False) -> Callable[[_Conversation], _Conversation]:
    """A kind of strangers that calls the jobtracker's verbs."""

    def named(conversation: _Conversation) -> _Conversation:
        def begin(world: World, site: Site, fault: Fault) -> None:
            visit = Visit(world, fault, seconds)

            async def talk() -> None:
                try:
                    await conversation(world, site, fault, visit)
                except Unreachable as error:
                    if not visit.disturbed:
                        visit.violate(f"is not answered: {error}")
                visit.part_over()

            world.own(talk())

        begin.__name__ = conversation.__name__
        stranger(CONTROL_PORT, slow)(begin)
        return conversation

    return named


async def _in_vain(visit: Visit, what: str, call: Awaitable[Any]) -> None:
    """The call fails, by one of our errors. Raises `Unreachable` if that is all that is known."""
    try:
        answer = await call
    except Unreachable:
        raise
    except PytxmrError as error:
        vague = isinstance(error, InternalError) or type(error) is PytxmrError
        if vague and "cannot write its state" not in error.message:
            visit.violate(f"calls {what}: {error!r}")
    else:
        visit.violate(f"calls {what}, and is answered {answer!r:.200}")


@_conversing(SOON_SECONDS)
async def _wrong_secret(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    role, secret = (
        (b"client", b"00" * 32),
        (b"tasktracker", b""),
        (b"client", world.secret.upper()),
        (b"root", world.secret),
        (b"", world.secret),
        (b"../client\0", world.secret),
    )[fault.number % 6]
    try:
        peer = await log_in(world, role, secret)
    except Refused:
        return
    visit.violate(f"is let in as {role!r}")
    peer.disconnect()


@_conversing(SOON_SECONDS)
async def _bomb_after_the_login(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await log_in(world, (b"client", b"tasktracker")[fault.number % 2])
    hung_up = HungUp(visit, peer)
    peer._reference.broker.transport.write(BOMBS[fault.number // 2 % len(BOMBS)])
    await hung_up.over


#: So many answers find no room on their way.
_MUCH = 100


@_conversing(_DEAF_SECONDS + SPARE_SECONDS, slow=True)
async def _deaf_client(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    """Asks for much, and does not read it."""
    peer = await log_in(world, b"client")
    hung_up = HungUp(visit, peer)
    peer._reference.broker.transport.pauseProducing()
    for _ in range(_MUCH):
        # What is said of an id that is none is long, also if there is no tracker and no job.
        peer.call("status", "x" * 80).addErrback(lambda failure: failure.trap(PytxmrError))
    await hung_up.over


#: What is no job's id, or that of none that there is.
_NO_JOBS: tuple[Any, ...] = (
    "../Job001",
    "Job001/../Job001",
    "Job001\0",
    "Job001\n",
    " Job001",
    "Job\u0660\u0660\u0661",
    "Job1",
    "Job0001",
    "Job000",
    "job001",
    "",
    "Job987",
    "x" * 5000,
    b"Job001",
    ["Job001"],
    {"Job001": 1},
    None,
    True,
    1,
    1.5,
    1 << 70,
)
_NO_TASKS: tuple[Any, ...] = ("../Map001", "Map000", "Map\u0661\u0661\u0661", "Map001.0", 1, [])
_NO_SPECS: tuple[tuple[str, Any], ...] = (
    ("inputs", ["/no/such/file"]),
    ("inputs", ["\0"]),
    ("inputs", [7]),
    ("inputs", "/"),
    ("inputs", ["input.txt"]),
    ("output", ""),
    ("output", "\0"),
    ("output", "../output"),
    ("output", ["/"]),
    ("reducers", -1),
    ("reducers", True),
    ("reducers", "2"),
    ("split_bytes", 0),
    ("max_attempts", 1 << 40),
    ("task_timeout", -1),
    ("memory_bytes", 0),
    ("codec", "../zstd"),
    ("params", []),
    ("code", {}),
    ("skip_bad_records", -1),
    ("key_sample", "x"),
)
_NO_OWNERS: tuple[Any, ...] = ("", "../" + "0" * 29, "0" * 33, "\u0660" * 32, 7, None)
_NO_NUMBERS: tuple[Any, ...] = ("soon", None, [1.0], {})


def _hostile_call(world: World, rng: Random) -> tuple[Any, ...]:
    """A client's verb, and arguments of which one cannot be used."""
    job = rng.choice(_NO_JOBS)
    known = [job.id for job in world.submissions if job.id is not None] or ["Job001"]
    spec = world.submissions[0].spec.to_plain()
    spec["output"] = os.path.join(world.directory, "output-of-nobody")
    name, value = rng.choice(_NO_SPECS)
    return rng.choice(
        (
            ("status", job),
            ("wait", job, 1.0),
            ("kill", job, "out of malice"),
            ("destroy", job),
            ("logs", job, None, False),
            ("logs", rng.choice(known), rng.choice(_NO_TASKS), False),
            ("wait", rng.choice(known), rng.choice(_NO_NUMBERS)),
            ("submit", spec | {name: value}, new_owner()),
            ("submit", spec, rng.choice(_NO_OWNERS)),
            ("submit", rng.choice((None, [], {}, "spec")), new_owner()),
        )
    )


@_conversing(SOON_SECONDS)
async def _hostile_client(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await log_in(world, b"client")
    for _ in range(4):
        call = _hostile_call(world, visit.rng)
        await _in_vain(visit, f"{call!r:.2000}", peer.call(*call))
    peer.disconnect()


_CARD = {"name": "t99", "workers": 1, "was": None, "jobs": [], "host": "10.0.2.1", "port": 9}
_NO_CARDS: tuple[tuple[str, Any], ...] = (
    ("name", "../t99"),
    ("name", "t99\n"),
    ("name", "t\u0669"),
    ("name", ""),
    ("name", 7),
    ("workers", 0),
    ("workers", 1 << 40),
    ("workers", "1"),
    ("was", 7),
    ("jobs", None),
    ("jobs", ["../Job001"]),
    ("jobs", [7]),
    ("jobs", [["Job001"]]),
    ("host", None),
    ("host", "\0"),
    ("host", ""),
    ("port", "9"),
    ("port", -1),
    ("port", 1 << 20),
)
_NOBODY: tuple[Any, ...] = (
    None,
    {},
    "t1.1",
    {"epoch": 0, "tracker": "t1.1"},
    {"epoch": 1, "tracker": "t99.1"},
    {"epoch": 1, "tracker": ["t1.1"]},
    {"epoch": 1, "tracker": "../t1.1"},
)


@_conversing(SOON_SECONDS)
async def _hostile_tracker(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await log_in(world, b"tasktracker")
    rng = visit.rng
    for _ in range(3):
        name, value = rng.choice(_NO_CARDS)
        who = rng.choice(_NOBODY)
        call: tuple[Any, ...] = rng.choice(
            (
                ("register", _CARD | {name: value}),
                ("register", rng.choice((None, [], {}, "t99"))),
                ("unregister", who),
                ("heartbeat", who, [["Job001", "Map001.0", 0.5, ""]]),
                ("report", who, [{"fact": "fetched", "job": "Job001", "attempt": "Map001.0"}]),
            )
        )
        await _in_vain(visit, f"{call!r:.300}", peer.call(*call))
    jobtracker = world.jobtracker
    if jobtracker is not None:
        taken = [name for name in jobtracker.cluster.trackers if name.startswith("t99")]
        if taken:
            visit.violate(f"is taken for {taken}")
    peer.disconnect()


@_conversing(SOON_SECONDS)
async def _too_large_an_argument(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await log_in(world, b"client")
    large = "x" * remote.MESSAGE_BYTES
    try:
        await peer.call("status", large)
    except TooLarge:
        if peer._reference.broker.waitingForAnswers:
            visit.violate("leaves an answer waited for that nobody was asked for")
    else:
        visit.violate("sends more than a message may have")
    peer.disconnect()


@_conversing(SOON_SECONDS)
async def _too_large_an_answer(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    """Asks for what an attempt has printed, which is more than a message may have."""
    sites = [site for site in world.sites[1:] if site.service is not None and site.service._jobs]
    works = [(site, job) for site in sites for job in site.service._jobs.values()]
    works = [(site, job) for site, job in works if job._started]
    if not works:
        return
    printing, work = works[fault.number % len(works)]
    attempt = sorted(work._started)[fault.number % len(work._started)]
    with open(printing.service.logs.path(work.id, attempt), "wb") as file:
        file.write(b"x" * (remote.MESSAGE_BYTES + 1))
    peer = await log_in(world, b"client")
    try:
        answer = await peer.call("logs", work.id, attempt.rpartition(".")[0], False)
    except TooLarge:
        pass
    except PytxmrError as error:
        if not visit.disturbed:
            visit.violate(f"is told {error!r}")
    else:
        if not visit.disturbed:
            visit.violate(f"is answered {len(str(answer))} characters")
    peer.disconnect()
