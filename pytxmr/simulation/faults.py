"""What goes wrong, when and where: a schedule drawn from the seed, and how each fault is done.

Faults are values, so that a schedule can be printed, cut down and run again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from pytxmr.errors import PytxmrError, Unreachable
from pytxmr.simulation.network import LINE_END

if TYPE_CHECKING:
    from pytxmr.simulation.world import Site, World

#: When the last fault may begin, in virtual seconds. Undisturbed, most jobs are over in 4 to 16.
LAST_BEGINS = (4.0, 8.0, 16.0)

#: In one schedule of so many each of the rare faults comes.
RARELY = 48

_Undo = Callable[[], None] | None


@dataclass(frozen=True)
class Fault:
    """``where`` and ``other`` are indexes of sites: 0 is the jobtracker's, trackers from 1 on.
    ``seconds`` is how long it lasts; ``number`` says which or how much of what it is about.
    """

    kind: str
    at: float
    where: int
    other: int
    seconds: float
    number: int

    def __str__(self) -> str:
        return (
            f"{self.at:.3f} s: {self.kind} at site {self.where} (other {self.other}, "
            f"{self.seconds:.2f} s, number {self.number})"
        )


def drawn(rng: Random, trackers: int) -> list[Fault]:
    """A schedule for a cluster of so many trackers, in the order of time."""
    count = rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 10, 14))
    last = rng.choice(LAST_BEGINS)
    faults = [
        Fault(
            kind=rng.choice(list(KINDS)),
            at=round(rng.uniform(0.0, last), 3),
            where=rng.randint(1, trackers),
            other=rng.randint(0, trackers),
            seconds=round(rng.choice((0.5, 3.0, 8.0, 15.0, 30.0)) * rng.uniform(0.3, 1.5), 2),
            number=rng.randrange(1 << 16),
        )
        for _ in range(count)
    ]
    return sorted(faults, key=lambda fault: fault.at)


def rare(rng: Random, trackers: int) -> list[Fault]:
    """One of those that take long, or are about one moment, in one of `RARELY` schedules."""
    return [
        Fault(
            kind=kind,
            at=round(rng.uniform(0.0, last), 3),
            where=rng.randint(1, trackers),
            other=rng.randint(0, trackers),
            seconds=round(rng.uniform(5.0, most), 2),
            number=rng.randrange(1 << 16),
        )
        for kind, last, most in (("trickle", 3.0, 150.0), ("power cut", 8.0, 20.0))
        if rng.random() * RARELY < 1
    ]


# ---- machines


def _crash(world: World, site: Site, fault: Fault) -> _Undo:
    if site.machine is None:
        return None
    world.crash(site, silent=fault.number % 2 == 1)
    return lambda: world.bring_back(site, wipe=fault.number % 3 == 0)


def _jobtracker_crash(world: World, site: Site, fault: Fault) -> _Undo:
    site = world.sites[0]
    if site.machine is None:
        return None
    world.crash(site, silent=fault.number % 2 == 1)
    return lambda: world.bring_back(site, wipe=False)


def _jobtracker_stop(world: World, site: Site, fault: Fault) -> _Undo:
    go_on = _stop(world, world.sites[0], fault)
    if go_on is None:
        return None

    def again() -> None:
        go_on()
        world.oracle.stood_still()

    return again


def _stop(world: World, site: Site, fault: Fault) -> _Undo:
    machine = site.machine
    if machine is None or machine.stopped:
        return None
    machine.stop()
    return machine.go_on


def _slow(world: World, site: Site, fault: Fault) -> _Undo:
    machine = site.machine
    if machine is None:
        return None
    machine.slow = 10.0
    return lambda: setattr(machine, "slow", 1.0)


# ---- the network


def _partition(world: World, site: Site, fault: Fault) -> _Undo:
    here, there = site.host, world.sites[fault.other].host
    pairs = [(here, there), (there, here)]
    return _block(world, pairs[: 1 + fault.number % 2])


def _isolate(world: World, site: Site, fault: Fault) -> _Undo:
    pairs = [(site.host, "*"), ("*", site.host)]
    return _block(world, [pairs, pairs[:1], pairs[1:]][fault.number % 3])


def _block(world: World, pairs: list[tuple[str, str]]) -> _Undo:
    for pair in pairs:
        world.network.block(*pair)

    def heal() -> None:
        for pair in pairs:
            world.network.unblock(*pair)

    return heal


def _delay(world: World, site: Site, fault: Fault) -> _Undo:
    world.network.delay[site.host] = (0.05, 0.5, 2.0)[fault.number % 3]

    def on_time() -> None:
        world.network.delay.pop(site.host, None)

    return on_time


def _trickle(world: World, site: Site, fault: Fault) -> _Undo:
    """The store of the site takes seconds over a byte, on each connection for as long as it lasts,
    also beyond the fault's end."""
    world.network.trickles[site.host] = (2.0, 5.0, 10.0)[fault.number % 3]

    def flow() -> None:
        world.network.trickles.pop(site.host, None)

    return flow


def _cut(world: World, site: Site, fault: Fault) -> _Undo:
    """Of the connections of the site, one is reset after some more bytes."""
    machine = site.machine
    ends = [end for end in machine.ends if not (end.lost or end.strange)] if machine else []
    if ends:
        end = ends[fault.number % len(ends)]
        chosen = end if fault.number % 2 else end.other
        chosen.cut_after(fault.number // 7 % 700)
    return None


def _client_cut(world: World, site: Site, fault: Fault) -> _Undo:
    """The client's connection is reset amid what it is answered; the next one, if it has none."""
    ends = [end for end in world.client.ends if not end.lost]
    if ends:
        ends[-1].other.cut_after(fault.number % 200)
    else:
        world.cut_client_after = fault.number % 200
    return None


def _flip_on_wire(world: World, site: Site, fault: Fault) -> _Undo:
    """Three bytes that the site sends to or as a reducer: one of the first hundred or, of every
    second fault, the end of a line; and two later ones."""
    flips = world.network.flips.setdefault(site.host, [])
    mask, first = fault.number % 255 + 1, fault.number // 255
    at = LINE_END if fault.number % 2 else first % 100
    flips += [[at, mask], [100 + first % 300, mask], [400 + first, mask]]
    return None


# ---- disks


def _spill(world: World, site: Site, fault: Fault) -> str | None:
    """One of the spills, indexes and fetched segments that are there; of another site, if there
    are none at this one."""
    found: list[str] = []
    for there in (site, *world.sites[1:]):
        for directory, _, names in os.walk(os.path.join(there.directory, "jobs")):
            if os.path.basename(directory) in ("spills", "fetched"):
                found += [os.path.join(directory, name) for name in names]
        if found:
            break
    if not found:
        return None
    path = sorted(found)[fault.number % len(found)]
    world.tell(f"of {world.shown(path)}")
    return path


def _flip_on_disk(world: World, site: Site, fault: Fault) -> _Undo:
    path = _spill(world, site, fault)
    if path is not None and os.path.getsize(path):
        with open(path, "r+b") as file:
            data = file.read()
            at = fault.number * 31 % len(data)
            file.seek(at)
            file.write(bytes([data[at] ^ (fault.number % 255 + 1)]))
    return None


def _truncate(world: World, site: Site, fault: Fault) -> _Undo:
    path = _spill(world, site, fault)
    if path is not None:
        os.truncate(path, fault.number * 31 % (os.path.getsize(path) + 1))
    return None


def _remove(world: World, site: Site, fault: Fault) -> _Undo:
    path = _spill(world, site, fault)
    if path is not None:
        os.unlink(path)
    return None


def _fill_disk(world: World, site: Site, fault: Fault) -> _Undo:
    machine = site.machine
    if machine is None:
        return None
    machine.disk_bytes = fault.number % 1500
    return lambda: setattr(machine, "disk_bytes", None)


def _fill_state(world: World, site: Site, fault: Fault) -> _Undo:
    """The jobtracker cannot write its state, at once or after some bytes more, amid anything."""
    machine = world.sites[0].machine
    if machine is None:
        return None
    state = world.sites[0].directory
    sizes = [entry.stat().st_size for entry in os.scandir(state)] if os.path.isdir(state) else []
    machine.disk_bytes = max(sizes, default=0) + fault.number // 4 if fault.number % 4 else 0
    return lambda: setattr(machine, "disk_bytes", None)


def _power_cut(world: World, site: Site, fault: Fault) -> _Undo:
    """The jobtracker's machine loses its power amid what is written to its state next."""
    if world.sites[0].machine is None:
        return None
    world.power_cut = fault

    def back() -> None:
        world.power_cut = None
        world.bring_back(world.sites[0], wipe=False)

    return back


def cut_power(world: World, number: int, write: Callable[[], None]) -> None:
    """Write to the jobtracker's state, and lose the power amid that: of what was not synced, the
    disk has what comes before some byte. That is the last transaction; or the whole journal, if
    its end need not be synced before a transaction counts. Raises `PytxmrError`, as nobody lives to
    be told anything.
    """
    site = world.sites[0]
    state = site.service._state
    database, journal = (
        os.path.join(site.directory, f"jobtracker.sqlite{end}") for end in ("", "-wal")
    )
    before = _content(database), _content(journal)
    write()
    after = _content(database), _content(journal)
    found = after[1]
    if after[0] == before[0]:  # or else all of the journal was synced, and became a part of it
        (synced,) = state._db.execute("PRAGMA synchronous").fetchone()
        start = _first_difference(before[1], found) if synced >= _FULL else 0
        cut = start + number * 31 % (len(found) - start + 1)
        world.tell(f"of the journal, {start} bytes were synced, and {cut} of {len(found)} written")
        found = found[:cut] + before[1][cut:] if synced >= _FULL else found[:cut]
    world.crash(site, silent=True)
    for path, data in ((database, after[0]), (journal, found)):
        with open(path, "wb") as file:
            file.write(data)
    raise PytxmrError("the jobtracker cannot write its state: there is no power")


#: SQLite's ``PRAGMA synchronous`` by which a transaction is on disk before it counts.
_FULL = 2


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _first_difference(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if one[:middle] != other[:middle] else (middle, high)
    return low


# ---- workers


def _dying_workers(world: World, site: Site, fault: Fault) -> _Undo:
    if site.pool is not None:
        site.pool.dying += 1 + fault.number % 2
    return None


def _hanging_worker(world: World, site: Site, fault: Fault) -> _Undo:
    if site.pool is not None:
        site.pool.hanging += 1
    return None


# ---- reports


def _reports(how: str) -> Callable[[World, Site, Fault], _Undo]:
    """For a while, reports of the site's tracker are lost, answered in vain, doubled, late, or
    have their facts in another order."""

    def begin(world: World, site: Site, fault: Fault) -> _Undo:
        world.reports[site.name] = how

        def taken() -> None:
            world.reports.pop(site.name, None)

        return taken

    return begin


def disturbed(
    how: str,
    report: Callable[[list[Any]], Deferred[None]],
    facts: list[Any],
    later: Callable[..., Any],
    cut: Callable[[], None],
) -> Deferred[None]:
    """Pass a report on, as the fault says. Whoever is not answered will report again."""
    match how:
        case "lost":
            cut()
            raise Unreachable("the report was lost")
        case "unanswered":
            answer = report(facts)
            cut()
            return answer
        case "twice":
            report(facts)
        case "again":
            later(4.0, report, list(facts))
        case "shuffled":
            facts = facts[::-1]
    return report(facts)


KINDS: dict[str, Callable[[World, Site, Fault], _Undo]] = {
    "crash": _crash,
    "jobtracker crash": _jobtracker_crash,
    "jobtracker stop": _jobtracker_stop,
    "stop": _stop,
    "slow": _slow,
    "partition": _partition,
    "isolate": _isolate,
    "delay": _delay,
    "cut": _cut,
    "client cut": _client_cut,
    "flip on wire": _flip_on_wire,
    "flip on disk": _flip_on_disk,
    "truncate": _truncate,
    "remove": _remove,
    "fill disk": _fill_disk,
    "fill state": _fill_state,
    "dying workers": _dying_workers,
    "hanging worker": _hanging_worker,
    "lost reports": _reports("lost"),
    "unanswered reports": _reports("unanswered"),
    "reports twice": _reports("twice"),
    "reports again": _reports("again"),
    "shuffled facts": _reports("shuffled"),
}
#: Drawn apart; see `rare`.
RARE: dict[str, Callable[[World, Site, Fault], _Undo]] = {
    "trickle": _trickle,
    "power cut": _power_cut,
}
