"""Workers are processes before the pool has them, and what they said last is heard."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress

import pytest
import pytest_twisted
from pools import Site, pid_of
from twisted.internet.process import reapAllProcesses
from wires import is_alive, result_of, soon, turns

from pytxmr.net.spawn import spawn_worker
from pytxmr.net.workers import WorkerPool


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest_twisted.ensureDeferred
async def test_workers_that_were_spawned_before_the_pool_are_used(reactor, site):
    spawned = [spawn_worker() for _ in range(2)]
    pids = {worker.pid for worker in spawned}
    pool = WorkerPool(reactor, 2, spawned)
    pool.start()
    try:
        tasks = [site.map_task("pass\n") for _ in range(2)]
        for answer in [pool.run(task) for task in tasks]:
            await soon(answer)
        assert {dict(site.pairs(task))["pid"] for task in tasks} <= pids
    finally:
        await soon(pool.stop())


@pytest_twisted.ensureDeferred
async def test_a_worker_that_died_before_the_pool_had_it_is_replaced(reactor, site, logged):
    spawned = spawn_worker()
    os.kill(spawned.pid, signal.SIGKILL)
    os.waitid(os.P_PID, spawned.pid, os.WEXITED | os.WNOWAIT)
    pool = WorkerPool(reactor, 1, [spawned])
    pool.start()
    try:
        assert await pid_of(pool, site) != spawned.pid
    finally:
        await soon(pool.stop())
        await turns()
    assert len(logged.flush()) == 1


@pytest_twisted.ensureDeferred
async def test_a_worker_leaves_a_core_until_it_is_taken_over(reactor, site):
    cores = os.sched_getaffinity(0)
    spawned = spawn_worker()
    spawned.keep_off({min(cores)})
    assert os.sched_getaffinity(spawned.pid) == cores - {min(cores)} or len(cores) == 1
    pool = WorkerPool(reactor, 1, [spawned])
    pool.start()
    try:
        assert await pid_of(pool, site) == spawned.pid
        assert os.sched_getaffinity(spawned.pid) == cores
    finally:
        await soon(pool.stop())


def test_a_worker_that_has_ended_may_be_kept_off_a_core():
    spawned = spawn_worker()
    os.kill(spawned.pid, signal.SIGKILL)
    os.waitid(os.P_PID, spawned.pid, os.WEXITED | os.WNOWAIT)
    spawned.keep_off({min(os.sched_getaffinity(0))})
    spawned.end()
    spawned.use_all_cores()


def test_a_spawned_worker_that_nobody_took_over_can_be_ended():
    before = open_pipes()
    spawned = spawn_worker()
    assert is_alive(spawned.pid)
    assert open_pipes() != before
    spawned.end()
    assert not is_alive(spawned.pid)
    assert open_pipes() == before


def open_pipes() -> set[str]:
    """The pipes of which this process has an end."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {target for target in found if target.startswith("pipe:")}


def test_a_worker_leads_a_group_and_a_session_of_its_own_from_the_start():
    spawned = spawn_worker()
    try:
        assert os.getpgid(spawned.pid) == os.getsid(spawned.pid) == spawned.pid
    finally:
        spawned.end()


@pytest_twisted.ensureDeferred
async def test_what_a_worker_answered_before_it_died_counts(pool, site):
    """The answer and the end are there at one turn of the reactor."""
    # No time passes, so that the answer is all that it tells.
    task = site.map_task("time.monotonic = lambda: 0.0\n")
    ended = pool.run(task)
    waiting = pool.run(site.map_task("pass\n"))
    (process,) = pool._processes
    pid = process.transport.pid
    fd = process.transport._answers.fileno()
    select.select([fd], [], [])
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reapAllProcesses()
    assert "counters" in result_of(ended)
    assert "counters" in await soon(waiting), "the next task is not given to the dead"


@pytest_twisted.ensureDeferred
async def test_workers_that_follow_others_have_pipes_with_numbers_of_their_own(reactor):
    """An event of the old pipes, from the same turn of the reactor, is not taken for theirs."""

    def descriptors() -> set[int]:
        ends = [process.transport for process in pool._processes]
        return {end._answers.fileno() for end in ends} | {end._control.fileno() for end in ends}

    pool = WorkerPool(reactor, 2)
    pool.start()
    try:
        for process in pool._processes:
            process.job = "Job001"
        before = descriptors()
        pipes = {os.readlink(f"/proc/self/fd/{fd}") for fd in before}
        for process in list(pool._processes):
            os.kill(process.transport.pid, signal.SIGKILL)
            os.waitid(os.P_PID, process.transport.pid, os.WEXITED | os.WNOWAIT)
        reapAllProcesses()
        assert len(before | descriptors()) == 8
        await turns()
        assert not pipes & open_pipes()
    finally:
        await soon(pool.stop())
