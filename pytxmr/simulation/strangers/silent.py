"""Strangers who say nothing, or hardly anything, or do not listen; and many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater

from pytxmr.errors import PytxmrError
from pytxmr.net import kvserver, login
from pytxmr.simulation.faults import Fault
from pytxmr.simulation.network import CONTROL_PORT, SHUFFLE_PORT
from pytxmr.simulation.strangers.pieces import message, text
from pytxmr.simulation.strangers.visits import (
    SPARE_SECONDS,
    Visit,
    at,
    call,
    log_in,
    once,
    stranger,
)

if TYPE_CHECKING:
    from pytxmr.simulation.world import Site, World

#: What is promised to hold, whatever becomes of these names.
_LOGIN_SECONDS = login.LOGIN_SECONDS
_STRANGER_SECONDS = kvserver.STRANGER_SECONDS
_STALL_SECONDS = kvserver.STALL_SECONDS


@stranger(CONTROL_PORT)
def _mute_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    once(world, site, fault, _LOGIN_SECONDS + SPARE_SECONDS)


@stranger(SHUFFLE_PORT, slow=True)
def _mute_at_a_store(world: World, site: Site, fault: Fault) -> None:
    once(world, site, fault, _STRANGER_SECONDS + SPARE_SECONDS)


@stranger(CONTROL_PORT)
def _dribbling_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    said = text(b"pb") + message(text(b"client"))
    once(world, site, fault, _LOGIN_SECONDS + SPARE_SECONDS, said, pause=0.5)


@stranger(SHUFFLE_PORT, slow=True)
def _dribbling_at_a_store(world: World, site: Site, fault: Fault) -> None:
    said = b"Job001@Map001@0 and so on and on, without an end"
    once(world, site, fault, _STRANGER_SECONDS + SPARE_SECONDS, said, pause=3.0)


def _flood(world: World, site: Site, fault: Fault, count: int, seconds: float) -> Visit:
    """``count`` connections within a second, on which nothing is said."""
    visit = Visit(world, fault, seconds, count + 1)
    machine = world.outside

    def one_more() -> None:
        caller = call(visit, machine, at(site))
        caller.over.addCallback(lambda _: visit.part_over())

    for _ in range(count):
        machine.callLater(visit.rng.random(), one_more)
    return visit


@stranger(CONTROL_PORT)
def _flood_at_the_jobtracker(world: World, site: Site, fault: Fault) -> None:
    """Whoever has the secret still gets in."""
    count = login.MOST_STRANGERS + 5
    visit = _flood(world, site, fault, count, _LOGIN_SECONDS + 1.0 + SPARE_SECONDS)

    async def friend() -> None:
        try:
            await deferLater(world.outside, 1.0 + SPARE_SECONDS)
            factory = _factory(site)
            if factory is not None and len(factory.strangers) > login.MOST_STRANGERS:
                visit.violate(f"is let in {len(factory.strangers)} times at once")
            peer = await log_in(world, b"client")
            if peer is not None:
                peer.disconnect()
        except PytxmrError as error:
            if not visit.disturbed:
                visit.violate(f"keeps others out: {error}")
        visit.part_over()

    world.own(friend())


@stranger(SHUFFLE_PORT, slow=True)
def _flood_at_a_store(world: World, site: Site, fault: Fault) -> None:
    count = kvserver.MOST_CONNECTIONS + 5
    seconds = _STRANGER_SECONDS + 1.0 + SPARE_SECONDS
    visit = _flood(world, site, fault, count, seconds)

    def look() -> None:
        factory = _factory(site)
        count = factory.connections if factory is not None else 0
        if count > kvserver.MOST_CONNECTIONS + 1 and not visit.disturbed:
            visit.violate(f"is let in {count} times at once")
        visit.part_over()

    world.outside.callLater(1.0 + SPARE_SECONDS, look)


def _factory(site: Site) -> Any:
    port = site.machine.ports.get(at(site)[1]) if site.machine is not None else None
    return port and port.factory


@stranger(SHUFFLE_PORT, slow=True)
def _deaf_at_a_store(world: World, site: Site, fault: Fault) -> None:
    """Asks for much, and does not read it."""
    visit = Visit(world, fault, _STALL_SECONDS + SPARE_SECONDS)
    caller = call(visit, world.beside, at(site), b"help\n" * 300)
    made = caller.connectionMade

    def deaf() -> None:
        made()
        caller.transport.pauseProducing()

    caller.connectionMade = deaf  # type: ignore[method-assign]
    caller.over.addCallback(lambda _: visit.part_over())
