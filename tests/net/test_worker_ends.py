"""Workers end when they should, with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from pools import Site, noted, pid_of
from wires import await_death, is_alive, soon

import pytxmr
from pytxmr.errors import AttemptFailed, WorkerDied
from pytxmr.net.workers import WorkerPool


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest_twisted.ensureDeferred
async def test_an_attempt_can_be_killed_and_its_worker_is_replaced(pool, site, tmp_path):
    task = site.told(tmp_path / "pid", "note(os.getpid()); wait_for_ever()")
    ended = pool.run(task)
    pid = int(await noted(tmp_path / "pid"))
    waiting = pool.run(site.map_task("pass\n", attempt="Map900.0"))
    pool.kill_attempt("Job001", "Map999.0", "no such attempt")
    pool.kill_attempt("Job002", task.attempt, "another job's")
    assert is_alive(pid)
    pool.kill_attempt("Job001", "Map900.0", "not needed")
    pool.kill_attempt("Job001", task.attempt, "another attempt was faster")
    with pytest.raises(AttemptFailed, match="was ended: not needed"):
        await soon(waiting)
    with pytest.raises(AttemptFailed, match="was ended: another attempt was faster") as caught:
        await soon(ended)
    assert not isinstance(caught.value, WorkerDied)
    assert not is_alive(pid)
    assert await pid_of(pool, site) != pid


CHILDREN = {
    "a child": "note(subprocess.Popen(['sleep', '1000']).pid)",
    "a child of a shell": (
        "note(subprocess.check_output('sleep 1000 >&- 2>&- & echo $!', shell=True, text=True))"
    ),
    "a child in a session of its own": (
        "note(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)"
    ),
    "a daemon": (
        "r, w = os.pipe(); "
        "os.fork() or (os.setsid(), os.fork() and os._exit(0), "
        "os.write(w, str(os.getpid()).encode()), os.execvp('sleep', ['sleep', '1000'])); "
        "note(os.read(r, 100).decode()); os.wait()"
    ),
    "a forked child that ignores signals": (
        "pid = os.fork(); "
        "pid or ([signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)], wait_for_ever()); "
        "note(pid)"
    ),
}


@pytest.mark.parametrize("child", CHILDREN)
@pytest_twisted.ensureDeferred
async def test_when_a_job_is_retired_all_that_it_started_is_gone(pool, site, tmp_path, child):
    await soon(pool.run(site.told(tmp_path / "pid", CHILDREN[child])))
    pid = int(await noted(tmp_path / "pid"))
    worker = await pid_of(pool, site)
    assert is_alive(pid)
    await soon(pool.retire("Job001"))
    assert not is_alive(worker)
    assert await_death(pid)


@pytest.mark.parametrize("child", ["a child", "a daemon"])
@pytest_twisted.ensureDeferred
async def test_when_a_worker_dies_all_that_it_started_is_gone(pool, site, tmp_path, child):
    task = site.told(tmp_path / "pid", CHILDREN[child] + "; os._exit(1)")
    with pytest.raises(WorkerDied):
        await soon(pool.run(task))
    assert await_death(int(await noted(tmp_path / "pid")))


@pytest_twisted.ensureDeferred
async def test_retiring_a_job_ends_its_attempts_and_no_other_job_s(reactor, site, tmp_path):
    pool = WorkerPool(reactor, 2)
    pool.start()
    try:
        one = pool.run(site.told(tmp_path / "1", "note(os.getpid()); wait_for_ever()"))
        two = pool.run(
            site.told(tmp_path / "2", "note(os.getpid()); wait_for_ever()", job="Job002")
        )
        waiting = pool.run(site.map_task("pass\n"))
        first, second = int(await noted(tmp_path / "1")), int(await noted(tmp_path / "2"))
        await soon(pool.retire("Job001"))
        for answer in (one, waiting):
            with pytest.raises(AttemptFailed, match="was ended: the job ended"):
                await soon(answer)
        assert not is_alive(first)
        assert is_alive(second)
        assert not two.called
        assert await pid_of(pool, site, job="Job003") not in (first, second)
        two.addErrback(lambda failure: None)
    finally:
        await soon(pool.stop())


@pytest_twisted.ensureDeferred
async def test_a_worker_works_for_one_job_only(pool, site):
    first = await pid_of(pool, site)
    assert await pid_of(pool, site) == first
    other = await pid_of(pool, site, job="Job002")
    assert other != first
    assert not is_alive(first)
    assert await pid_of(pool, site) not in (first, other)


@pytest_twisted.ensureDeferred
async def test_stop_ends_every_worker_and_fails_every_task(reactor, site, tmp_path):
    pool = WorkerPool(reactor, 2)
    pool.start()
    running = [
        pool.run(site.told(tmp_path / f"{n}", "note(os.getpid()); wait_for_ever()"))
        for n in range(2)
    ]
    pids = [int(await noted(tmp_path / f"{n}")) for n in range(2)]
    waiting = pool.run(site.map_task("pass\n"))
    stopped = pool.stop()
    late = pool.run(site.map_task("pass\n"))
    for answer in [*running, waiting, late]:
        with pytest.raises(AttemptFailed, match="was ended: the tasktracker stopped"):
            await soon(answer)
    await soon(stopped)
    assert [pid for pid in pids if is_alive(pid)] == []
    await soon(pool.stop())


@pytest_twisted.ensureDeferred
async def test_a_pool_can_be_stopped_before_its_workers_are_ready(reactor):
    pool = WorkerPool(reactor, 2)
    pool.start()
    await soon(pool.stop())


PARENT = """
import os, sys
from twisted.internet import reactor
from pytxmr.net.workers import Setup, Task, WorkerPool

pool = WorkerPool(reactor, 2)
pool.start()
for message, setup in {tasks!r}:
    pool.run(Task("Job001", message["log"], message, Setup(setup), print))
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_workers_end_when_their_parent_is_killed(site, tmp_path):
    tasks = [site.told(tmp_path / "busy", "note(os.getpid()); wait_for_ever()")]
    tasks += [site.told(tmp_path / "idle", "note(os.getpid())")]
    source = PARENT.format(tasks=[(task.message, task.setup.values) for task in tasks])
    where = str(Path(pytxmr.__file__).parent.parent)
    parent = subprocess.Popen(
        [sys.executable, "-c", source], env=os.environ | {"PYTHONPATH": where}
    )
    try:
        pids = [int(await noted(tmp_path / name)) for name in ("busy", "idle")]
        assert all(map(is_alive, pids))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    for pid in pids:
        assert await_death(pid)
