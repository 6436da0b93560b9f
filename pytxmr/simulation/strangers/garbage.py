"""Strangers who say what is no message, or one that is too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.spread.banana import SIZE_LIMIT

from pytxmr.net import broker, kvserver, login
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.network import CONTROL_PORT, SHUFFLE_PORT, WINDOW_BYTES
from pytxmr.simulation.strangers.pieces import integer, list_of, number, text
from pytxmr.simulation.strangers.visits import (
    ON_THE_WAY,
    SOON_SECONDS,
    SPARE_SECONDS,
    Visit,
    once,
    only_refusals,
    stranger,
)

if TYPE_CHECKING:
    from pytxmr.simulation.world import Site, World

#: What is promised to hold, whatever becomes of these names.
_LOGIN_SECONDS = login.LOGIN_SECONDS
_LOGIN_BYTES = broker.LOGIN_BYTES
_LINE_BYTES = kvserver.KeyValueProtocol.MAX_LENGTH

_GARBAGE = (
    b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n",
    bytes.fromhex("16030100c8010000c40303") + bytes(range(190)),
    bytes(range(256)) * 4,
    b"\x00" * 300,
)
BOMBS = (
    list_of(SIZE_LIMIT),
    list_of(2**400),
    list_of(1) * 3000,
    list_of(2) + list_of(broker.MOST_ITEMS) + integer(1) * (broker.MOST_ITEMS + 1),
    list_of(900) + list_of(0) * 3000,
    number(SIZE_LIMIT + 1) + b"\x82",
    b"\x01" * 3000,
)
#: What is harmless later, but too much for a login.
_LONG = list_of(900) + text(b"x" * 500) * 100


@stranger(CONTROL_PORT)
def _garbage_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    said = _GARBAGE[fault.number % len(_GARBAGE)]
    once(world, site, fault, _LOGIN_SECONDS + SPARE_SECONDS, said)


@stranger(SHUFFLE_PORT)
def _garbage_at_a_store(world: World, site: Site, fault: Fault) -> None:
    """And then what ends a connection, on a line of its own."""
    said = _GARBAGE[fault.number % len(_GARBAGE)] + b"\nquit\n"
    once(world, site, fault, SOON_SECONDS, said, judge=only_refusals)


@stranger(CONTROL_PORT)
def _bomb_before_the_login(world: World, site: Site, fault: Fault) -> None:
    bombs = (_LONG, *BOMBS)
    said = text(b"pb") + bombs[fault.number % len(bombs)]
    most = _LOGIN_BYTES + ON_THE_WAY
    once(world, site, fault, _LOGIN_SECONDS + SPARE_SECONDS, said, most=most)


@stranger(SHUFFLE_PORT)
def _giant_line(world: World, site: Site, fault: Fault) -> None:
    said = b"x" * (_LINE_BYTES + WINDOW_BYTES * (1 + fault.number % 20))
    beside = fault.number % 2 == 0

    def judge(visit: Visit, heard: bytes) -> None:
        if not heard.startswith(b"! not-found: ") or heard.count(b"\n") != 1:
            visit.violate(f"is answered {heard[:200]!r}")

    once(
        world,
        site,
        fault,
        SOON_SECONDS,
        said,
        beside=beside,
        most=_LINE_BYTES + ON_THE_WAY,
        judge=judge,
    )
