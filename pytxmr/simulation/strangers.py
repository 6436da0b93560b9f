"""Strangers: whoever has no business with a cluster, and calls at its ports all the same.

Some do not know the secret, some have it and mean harm. Each does one thing, while jobs run. What
it asks for it must not be given, and nothing of it may stay: a `Visit` has to be over in its time,
which is counted anew when a fault is over that may have held it up.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.banana import SIZE_LIMIT, int2b128

from pytxmr.client import new_owner
from pytxmr.errors import (
    InternalError,
    NotFound,
    PytxmrError,
    Refused,
    SpillDamaged,
    TooLarge,
    Unreachable,
)
from pytxmr.net import broker, kvserver, login, remote
from pytxmr.net.remote import Peer, answering
from pytxmr.net.secret import sign
from pytxmr.simulation.faults import LAST_BEGINS, Fault
from pytxmr.simulation.network import CONTROL_PORT, SHUFFLE_PORT, WINDOW_BYTES, End

if TYPE_CHECKING:
    from pytxmr.simulation.machine import Machine
    from pytxmr.simulation.world import Site, World

#: What is promised to hold, whatever becomes of these names.
_LOGIN_SECONDS = login.LOGIN_SECONDS
_LOGIN_BYTES = broker.LOGIN_BYTES
_STRANGER_SECONDS = kvserver.STRANGER_SECONDS
_STALL_SECONDS = kvserver.STALL_SECONDS
_DEAF_SECONDS = broker.STALL_SECONDS
_LINE_BYTES = kvserver.KeyValueProtocol.MAX_LENGTH
#: What a deadline is checked with: what a connection, or a few pieces of data, take at most.
_SPARE_SECONDS = 2.0
#: What somebody takes to be refused, or cut off, who sends some hundred KiB.
_SOON_SECONDS = 15.0
#: Bytes that are on their way when a connection is cut.
_ON_THE_WAY = 2 * WINDOW_BYTES


class Visit:
    """``parts`` connections or conversations of a stranger, all of which have to be over in
    ``seconds``."""

    def __init__(self, world: World, fault: Fault, seconds: float, parts: int = 1) -> None:
        self.kind = fault.kind
        self.rng = Random(f"visit {fault.number}")
        self._world = world
        self._seconds = seconds
        self._since = world.clock.now
        self._parts = parts
        self._callers: list[_Caller] = []
        self._timer = world.clock.call_at(self._since + seconds, None, self._due)
        world.visits[self] = None

    @property
    def disturbed(self) -> bool:
        """May a fault have held it up?"""
        return self._world.disturbed_since(self._since)

    def violate(self, text: str) -> None:
        self._world.oracle.violate(f"a stranger ({self.kind}) {text}")

    def add(self, caller: _Caller) -> None:
        self._callers.append(caller)

    def part_over(self) -> None:
        self._parts -= 1
        if not self._parts:
            if self._timer.active():
                self._timer.cancel()
            self._world.tell(f"the stranger ({self.kind}) is gone")
            del self._world.visits[self]

    def _due(self) -> None:
        for caller in self._callers:
            caller.look()
        if not self._parts:
            return
        if not self.disturbed:
            self.violate(f"is still there after {self._seconds} s")
        self._since = self._world.clock.now
        self._timer = self._world.clock.call_at(self._since + self._seconds, None, self._due)


# ---- those who speak for themselves


class _Caller(Protocol):
    """Says something, at once or byte by byte, and is to be hung up on."""

    transport: Any

    def __init__(self, visit: Visit, said: bytes, pause: float, most: int | None) -> None:
        self.heard = b""
        self._visit = visit
        self._said = said
        self._pause = pause
        self._most = most
        self._server: End | None = None
        self.over: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self._server = self.transport.other
        if self._pause:
            self._say_on(0)
        else:
            self.transport.write(self._said)

    def _say_on(self, at: int) -> None:
        if not self.over.called and at < len(self._said):
            self.transport.write(self._said[at : at + 1])
            self.transport.machine.callLater(self._pause, self._say_on, at + 1)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.look()

    def failed(self) -> None:
        """There is nobody to talk to."""
        if not self.over.called:
            self.over.callback(b"")

    def look(self) -> None:
        """Is the server's end of the connection gone?"""
        server = self._server
        if self.over.called or (server is not None and not (server.lost or server.machine.gone)):
            return
        if server is not None:
            if self._most is not None and server.taken > self._most:
                self._visit.violate(f"was read {server.taken} bytes")
            self.transport.abortConnection()
        self.over.callback(self.heard)


class _CallerFactory(ClientFactory):
    noisy = False

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    def buildProtocol(self, addr: Any) -> Protocol:
        return self._caller

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._caller.failed()


def _call(
    visit: Visit,
    machine: Machine,
    to: tuple[str, int],
    said: bytes = b"",
    pause: float = 0.0,
    most: int | None = None,
) -> _Caller:
    caller = _Caller(visit, said, pause, most)
    visit.add(caller)
    machine.connectTCP(*to, _CallerFactory(caller))
    return caller


_Begin = Callable[["World", "Site", Fault], None]
KINDS: dict[str, _Begin] = {}
#: Those that take a minute of virtual time.
SLOW_KINDS: list[str] = []


def _stranger(port: int, slow: bool = False) -> Callable[[_Begin], _Begin]:
    """A kind of strangers, who call at a port of the jobtracker or of a tracker, if it is open."""

    def named(begin: _Begin) -> _Begin:
        def begun(world: World, site: Site, fault: Fault) -> None:
            site = site if port == SHUFFLE_PORT else world.sites[0]
            if site.machine is not None and port in site.machine.ports:
                begin(world, site, fault)

        KINDS[begin.__name__.strip("_").replace("_", " ")] = begun
        if slow:
            SLOW_KINDS.append(begin.__name__.strip("_").replace("_", " "))
        return begin

    return named


def _at(site: Site) -> tuple[str, int]:
    return (site.host, SHUFFLE_PORT if site.index else CONTROL_PORT)


def _once(
    world: World,
    site: Site,
    fault: Fault,
    seconds: float,
    said: bytes = b"",
    *,
    beside: bool = False,
    pause: float = 0.0,
    most: int | None = None,
    judge: Callable[[Visit, bytes], None] | None = None,
) -> None:
    """One connection, and what has to be heard on it, if nothing else disturbs it."""
    visit = Visit(world, fault, seconds)
    machine = world.beside if beside else world.outside

    def over(heard: bytes) -> None:
        if judge is not None and not visit.disturbed:
            judge(visit, heard)
        visit.part_over()

    _call(visit, machine, _at(site), said, pause, most).over.addCallback(over)


# ---- mute and slow ones


@_stranger(CONTROL_PORT)
def _mute_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    _once(world, site, fault, _LOGIN_SECONDS + _SPARE_SECONDS)


@_stranger(SHUFFLE_PORT, slow=True)
def _mute_at_a_store(world: World, site: Site, fault: Fault) -> None:
    _once(world, site, fault, _STRANGER_SECONDS + _SPARE_SECONDS)


@_stranger(CONTROL_PORT)
def _dribbling_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    said = _text(b"pb") + _message(_text(b"client"))
    _once(world, site, fault, _LOGIN_SECONDS + _SPARE_SECONDS, said, pause=0.5)


@_stranger(SHUFFLE_PORT, slow=True)
def _dribbling_at_a_store(world: World, site: Site, fault: Fault) -> None:
    said = b"Job001@Map001@0 and so on and on, without an end"
    _once(world, site, fault, _STRANGER_SECONDS + _SPARE_SECONDS, said, pause=3.0)


def _flood(world: World, site: Site, fault: Fault, count: int, seconds: float) -> Visit:
    """``count`` connections within a second, on which nothing is said."""
    visit = Visit(world, fault, seconds, count + 1)
    machine = world.outside

    def one_more() -> None:
        caller = _call(visit, machine, _at(site))
        caller.over.addCallback(lambda _: visit.part_over())

    for _ in range(count):
        machine.callLater(visit.rng.random(), one_more)
    return visit


@_stranger(CONTROL_PORT)
def _flood_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    """Whoever has the secret still gets in."""
    count = login.MOST_STRANGERS + 5
    visit = _flood(world, site, fault, count, _LOGIN_SECONDS + 1.0 + _SPARE_SECONDS)

    async def friend() -> None:
        try:
            await deferLater(world.outside, 1.0 + _SPARE_SECONDS)
            factory = _factory(site)
            if factory is not None and len(factory.strangers) > login.MOST_STRANGERS:
                visit.violate(f"is let in {len(factory.strangers)} times at once")
            peer = await _log_in(world, b"client")
            if peer is not None:
                peer.disconnect()
        except PytxmrError as error:
            if not visit.disturbed:
                visit.violate(f"keeps others out: {error}")
        visit.part_over()

    world.own(friend())


@_stranger(SHUFFLE_PORT, slow=True)
def _flood_at_a_store(world: World, site: Site, fault: Fault) -> None:
    count = kvserver.MOST_CONNECTIONS + 5
    seconds = _STRANGER_SECONDS + 1.0 + _SPARE_SECONDS
    visit = _flood(world, site, fault, count, seconds)

    def look() -> None:
        factory = _factory(site)
        count = factory.connections if factory is not None else 0
        if count > kvserver.MOST_CONNECTIONS + 1 and not visit.disturbed:
            visit.violate(f"is let in {count} times at once")
        visit.part_over()

    world.outside.callLater(1.0 + _SPARE_SECONDS, look)


def _factory(site: Site) -> Any:
    port = site.machine.ports.get(_at(site)[1]) if site.machine is not None else None
    return port and port.factory


@_stranger(SHUFFLE_PORT, slow=True)
def _deaf_at_a_store(world: World, site: Site, fault: Fault) -> None:
    """Asks for much, and does not read it."""
    visit = Visit(world, fault, _STALL_SECONDS + _SPARE_SECONDS)
    caller = _call(visit, world.beside, _at(site), b"help\n" * 300)
    made = caller.connectionMade

    def deaf() -> None:
        made()
        caller.transport.pauseProducing()

    caller.connectionMade = deaf  # type: ignore[method-assign]
    caller.over.addCallback(lambda _: visit.part_over())


# ---- garbage, bombs and giant lines


def _number(value: int) -> bytes:
    digits: list[bytes] = []
    int2b128(value, digits.append)
    return b"".join(digits)


def _list(items: int) -> bytes:
    """The beginning of one, in Banana."""
    return _number(items) + b"\x80"


def _text(data: bytes) -> bytes:
    return _number(len(data)) + b"\x82" + data


def _integer(value: int) -> bytes:
    return _number(value) + b"\x85"


def _message(argument: bytes) -> bytes:
    """A call of the first object that there is, with one argument."""
    parts = [_text(b"message"), _integer(7), _text(b"root"), _text(b"login"), _integer(1)]
    arguments = _list(2) + _text(b"tuple") + argument
    return _list(7) + b"".join(parts) + arguments + _list(1) + _text(b"dictionary")


_GARBAGE = (
    b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n",
    bytes.fromhex("16030100c8010000c40303") + bytes(range(190)),
    bytes(range(256)) * 4,
    b"\x00" * 300,
)
_BOMBS = (
    _list(SIZE_LIMIT),
    _list(2**400),
    _list(1) * 3000,
    _list(2) + _list(broker.MOST_ITEMS) + _integer(1) * (broker.MOST_ITEMS + 1),
    _list(900) + _list(0) * 3000,
    _number(SIZE_LIMIT + 1) + b"\x82",
    b"\x01" * 3000,
)
#: What is harmless later, but too much for a login.
_LONG = _list(900) + _text(b"x" * 500) * 100


@_stranger(CONTROL_PORT)
def _garbage_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    said = _GARBAGE[fault.number % len(_GARBAGE)]
    _once(world, site, fault, _LOGIN_SECONDS + _SPARE_SECONDS, said)


@_stranger(SHUFFLE_PORT)
def _garbage_at_a_store(world: World, site: Site, fault: Fault) -> None:
    """And then what ends a connection, on a line of its own."""
    said = _GARBAGE[fault.number % len(_GARBAGE)] + b"\nquit\n"
    _once(world, site, fault, _SOON_SECONDS, said, judge=_only_refusals)


@_stranger(CONTROL_PORT)
def _bomb_before_the_login(world: World, site: Site, fault: Fault) -> None:
    bombs = (_LONG, *_BOMBS)
    said = _text(b"pb") + bombs[fault.number % len(bombs)]
    most = _LOGIN_BYTES + _ON_THE_WAY
    _once(world, site, fault, _LOGIN_SECONDS + _SPARE_SECONDS, said, most=most)


@_stranger(SHUFFLE_PORT)
def _giant_line(world: World, site: Site, fault: Fault) -> None:
    said = b"x" * (_LINE_BYTES + WINDOW_BYTES * (1 + fault.number % 20))
    beside = fault.number % 2 == 0

    def judge(visit: Visit, heard: bytes) -> None:
        if not heard.startswith(b"! not-found: ") or heard.count(b"\n") != 1:
            visit.violate(f"is answered {heard[:200]!r}")

    _once(
        world,
        site,
        fault,
        _SOON_SECONDS,
        said,
        beside=beside,
        most=_LINE_BYTES + _ON_THE_WAY,
        judge=judge,
    )


# ---- what a store is asked for in vain


def _lines(heard: bytes) -> list[bytes]:
    return heard.split(b"\n")[:-1]


_REFUSALS = tuple(f"! {kind.code}: ".encode() for kind in (NotFound, Refused, SpillDamaged))


def _only_refusals(visit: Visit, heard: bytes) -> None:
    for line in _lines(heard):
        if not line.startswith(_REFUSALS):
            visit.violate(f"is answered {line[:200]!r}")


def _refused(
    count: int, codes: tuple[bytes, ...], fewest: int | None = None
) -> Callable[[Visit, bytes], None]:
    """Each of so many lines is refused, with one of these codes; after ``fewest`` of them the
    connection may end."""

    def judge(visit: Visit, heard: bytes) -> None:
        lines = _lines(heard)
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


@_stranger(SHUFFLE_PORT)
def _asking_for_what_there_is_not(world: World, site: Site, fault: Fault) -> None:
    said = _asked(Random(fault.number), _NOWHERE, 5)
    judge = _refused(5, (b"! not-found: ", b"! spill-damaged: "))
    _once(world, site, fault, _SOON_SECONDS, said, beside=True, judge=judge)


@_stranger(SHUFFLE_PORT)
def _asking_without_a_token(world: World, site: Site, fault: Fault) -> None:
    """From another machine; what is there is refused just as what is not."""
    said = _asked(Random(fault.number), ("jobs", "help", "Job001@Map001@0", *_NOWHERE), 5)
    _once(world, site, fault, _SOON_SECONDS, said, judge=_refused(5, (b"! refused: ",)))


@_stranger(SHUFFLE_PORT)
def _asking_with_a_wrong_token(world: World, site: Site, fault: Fault) -> None:
    token = ("", "0" * 32, "\u0660" * 32, "x" * 5000)[fault.number % 4]
    said = f"auth {token}\njobs\njobs\n".encode()
    _once(world, site, fault, _SOON_SECONDS, said, judge=_refused(3, (b"! refused: ",), 1))


@_stranger(SHUFFLE_PORT)
def _fetching_without_a_signature(world: World, site: Site, fault: Fault) -> None:
    said = _asked(Random(fault.number), _UNSIGNED, 5)
    judge = _refused(5, (b"! refused: ", b"! not-found: "))
    _once(world, site, fault, _SOON_SECONDS, said, beside=fault.number % 2 == 0, judge=judge)


@_stranger(SHUFFLE_PORT)
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
    judge = _refused(3, _REFUSALS)
    _once(world, site, fault, _SOON_SECONDS, _asked(rng, signed, 3), judge=judge)


# ---- those who speak Perspective Broker


class _Mind(pb.Referenceable):
    @answering
    def remote_ping(self) -> str:
        return "pong"


async def _log_in(world: World, role: bytes, secret: bytes | None = None) -> Peer:
    site = world.sites[0]
    where = TCP4ClientEndpoint(world.outside, *_at(site))
    own = world.secret if secret is None else secret
    return await login.log_in(where, role.decode(), own, _Mind(), world.outside, "the jobtracker")


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
        _stranger(CONTROL_PORT, slow)(begin)
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


@_conversing(_SOON_SECONDS)
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
        peer = await _log_in(world, role, secret)
    except Refused:
        return
    visit.violate(f"is let in as {role!r}")
    peer.disconnect()


@_conversing(_SOON_SECONDS)
async def _bomb_after_the_login(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await _log_in(world, (b"client", b"tasktracker")[fault.number % 2])
    lost: Deferred[None] = Deferred()
    peer.when_lost(lambda: lost.callback(None))
    there = peer._reference.broker.transport
    there.write(_BOMBS[fault.number // 2 % len(_BOMBS)])
    await lost


@_conversing(_DEAF_SECONDS + _SPARE_SECONDS, slow=True)
async def _deaf_client(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    """Asks for much, and does not read it."""
    peer = await _log_in(world, b"client")
    lost: Deferred[None] = Deferred()
    peer.when_lost(lambda: lost.callback(None))
    peer._reference.broker.transport.pauseProducing()
    for _ in range(100):
        peer.call("trackers").addErrback(lambda failure: failure.trap(Unreachable))
    await lost


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
    ("reducers", 0),
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


@_conversing(_SOON_SECONDS)
async def _hostile_client(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await _log_in(world, b"client")
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


@_conversing(_SOON_SECONDS)
async def _hostile_tracker(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await _log_in(world, b"tasktracker")
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


@_conversing(_SOON_SECONDS)
async def _too_large_an_argument(world: World, site: Site, fault: Fault, visit: Visit) -> None:
    peer = await _log_in(world, b"client")
    large = "x" * remote.MESSAGE_BYTES
    try:
        await peer.call("status", large)
    except TooLarge:
        if peer._reference.broker.waitingForAnswers:
            visit.violate("leaves an answer waited for that nobody was asked for")
    else:
        visit.violate("sends more than a message may have")
    peer.disconnect()


@_conversing(_SOON_SECONDS)
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
    peer = await _log_in(world, b"client")
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


def drawn(rng: Random, trackers: int) -> list[Fault]:
    """The strangers of a seed: none, mostly."""
    count = rng.choice((0, 0, 0, 0, 0, 0, 0, 1, 1, 2))
    last = rng.choice(LAST_BEGINS)
    quick = [kind for kind in KINDS if kind not in SLOW_KINDS]
    return [
        Fault(
            kind=rng.choice(quick * 2 + SLOW_KINDS),
            at=round(rng.uniform(0.5, last), 3),
            where=rng.randint(1, trackers),
            other=0,
            seconds=0.0,
            number=rng.randrange(1 << 16),
        )
        for _ in range(count)
    ]
