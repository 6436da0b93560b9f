"""Worker processes: each ends when it should, with all that it started, and it is told of what."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.process import reapAllProcesses
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wires import await_death, is_alive, result_of, soon, turns, until

import pytxmr
from pytxmr.errors import AttemptFailed, PytxmrError, WorkerDied
from pytxmr.model import JobCode
from pytxmr.net.spawn import spawn_worker
from pytxmr.net.workers import Setup, Task, WorkerPool
from pytxmr.records.spill import open_spill, read_blocks

WORDCOUNT = """
def mapper(key, value):
    for word in value.split():
        yield word, 1

def reducer(key, values):
    yield key, sum(values)
"""

#: Of no process: Linux counts up to 4194304.
NO_PID = 1 << 30

#: A job that can be told by its input what to do.
TOLD = '''
import os, signal, subprocess, sys, threading, time
import pytxmr

imported = []
imported.append(os.getpid())

def mapper(key, value):
    exec(value, globals())
    yield "pid", os.getpid()

def note(text):
    """Write it whole, so that a reader sees nothing or all."""
    with open(target + ".new", "w") as file:
        file.write(str(text))
    os.rename(target + ".new", target)

def wait_for_ever():
    while True:
        signal.pause()

def reducer(key, values):
    yield key, list(values)
'''


class Site:
    """A directory with jobs, and tasks for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.number = 0

    def job(self, source: str, name: str = "Job001", **params: Any) -> dict[str, Any]:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        (directory / "source.py").write_text(source)
        code = JobCode("/somewhere/job.py", source.encode())
        return {
            "directory": str(directory),
            "source_path": str(directory / "source.py"),
            "modules_path": None,
            "code": {k: v for k, v in code.to_plain().items() if k not in ("source", "modules")},
            "side_files": {},
            "params": params,
            "key_sample": None,
            "memory_bytes": 1 << 26,
            "data_bytes": 1 << 32,
            "codec": "none",
        }

    def map_task(
        self, text: str, source: str = TOLD, job: str = "Job001", attempt: str = "", **params: Any
    ) -> Task:
        self.number += 1
        name = attempt or f"Map{self.number:03d}.0"
        path = self.directory / f"{job}-{name}.input"
        path.write_text(text)
        message = {
            "do": "map",
            "split": [[str(path), 0, path.stat().st_size]],
            "partitions": 1,
            "spill_path": str(self.directory / f"{job}-{name}"),
            "log": str(self.log(job, name)),
        }
        setup = Setup(self.job(source, job, **params))
        return Task(job, name, message, setup, lambda fraction, status: None)

    def log(self, job: str, attempt: str) -> Path:
        return self.directory / f"{job}-{attempt}.log"

    def told(self, target: Path, what: str, **more: Any) -> Task:
        """A map that knows where to `note` something, and does what it is told, on one line."""
        return self.map_task(f"target = {str(target)!r}; {what}\n", **more)

    def pairs(self, task: Task) -> list[Any]:
        fd, ranges = open_spill(task.message["spill_path"])
        with open(fd, "rb"):
            blocks = [b for part in ranges for b in read_blocks(fd, part.offset, part.length)]
        return [(key, b.values[n]) for b in blocks for n, key in enumerate(b.keys)]


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def pool(reactor) -> Any:
    """A pool with one worker; afterwards no process is left."""
    made = WorkerPool(reactor, 1)
    made.start()
    yield made
    pytest_twisted.blockon(soon(made.stop()))


def noted(path: Path) -> Any:
    """Fires with what a worker has noted in a file, once it has."""
    return soon(until(lambda: path.exists() and path.read_text(), what=f"a note in {path}"))


async def pid_of(pool: WorkerPool, site: Site, **more: Any) -> int:
    """The process that runs the next task."""
    task = site.map_task("pass\n", **more)
    await soon(pool.run(task))
    return dict(site.pairs(task))["pid"]


# ---- tasks


@pytest_twisted.ensureDeferred
async def test_a_map_and_a_reduce_run(pool, site):
    task = site.map_task("a b a\nc b a\n", WORDCOUNT)
    done = await soon(pool.run(task))
    assert done["counters"]["map input records"] == 2
    assert done["user_counters"] == {}
    spill = task.message["spill_path"]
    fd, ranges = open_spill(spill)
    os.close(fd)
    assert done["partition_bytes"] == [ranges[0].length]

    output = site.directory / "part"
    reduce = Task(
        "Job001",
        "Reduce000.0",
        {
            "do": "reduce",
            "segments": [[spill, ranges[0].offset, ranges[0].length]],
            "output_path": str(output),
            "scratch": str(site.directory / "scratch"),
            "log": str(site.log("Job001", "Reduce000.0")),
        },
        task.setup,
        lambda fraction, status: None,
    )
    done = await soon(pool.run(reduce))
    assert output.read_text() == "a\t3\nb\t2\nc\t1\n"
    assert done["size_bytes"] == len("a\t3\nb\t2\nc\t1\n")


@pytest_twisted.ensureDeferred
async def test_what_the_user_prints_goes_to_the_attempt_s_log(pool, site):
    task = site.map_task("print('out'); print('err', file=sys.stderr); os.system('echo child')\n")
    await soon(pool.run(task))
    lines = site.log("Job001", task.attempt).read_text().splitlines()
    assert sorted(lines) == ["child", "err", "out"]


@pytest_twisted.ensureDeferred
async def test_each_attempt_s_output_is_in_its_own_log_and_silent_ones_share_a_file(pool, site):
    silent = [site.map_task("pass\n") for _ in range(3)]
    loud = [site.map_task(f"print({n})\n") for n in range(2)]
    redirected = site.map_task("os.close(1); os.close(2); os.open('elsewhere', os.O_CREAT)\n")
    last = site.map_task("print('last')\n")
    inodes = set()
    for task in (*silent, *loud, redirected, last):
        await soon(pool.run(task))
        if task in silent:
            inodes.add(site.log("Job001", task.attempt).stat().st_ino)
    assert len(inodes) == 1
    texts = [
        log.read_text() if (log := site.log("Job001", task.attempt)).exists() else ""
        for task in (*silent, *loud, redirected, last)
    ]
    assert texts == ["", "", "", "0\n", "1\n", "", "last\n"]


@pytest_twisted.ensureDeferred
async def test_a_task_whose_code_closes_its_output_ends_well(pool, site):
    task = site.map_task("sys.stdout.close(); sys.stderr = None\n")
    await soon(pool.run(task))
    assert dict(site.pairs(task))["pid"] == await pid_of(pool, site)


@pytest_twisted.ensureDeferred
async def test_counters_status_and_progress_are_told(pool, site):
    seen: list[tuple[float, str]] = []
    # The clock of the worker is set so that each step of it is time to tell.
    text = (
        "pytxmr.counter('ü', 2); pytxmr.counter('ü'); pytxmr.counter(404); pytxmr.counter('404')\n"
        "pytxmr.status('half-way'); time.monotonic = lambda: 1e12\n"
    )
    task = site.map_task(text + "pass\n" * 20_000)
    task.progress = lambda fraction, status: seen.append((fraction, status))
    done = await soon(pool.run(task))
    assert done["user_counters"] == {"ü": 3, "404": 2}
    assert "half-way" in {status for _, status in seen}
    assert all(0 <= fraction <= 1 for fraction, _ in seen)


@pytest_twisted.ensureDeferred
async def test_of_a_task_that_is_soon_done_only_its_end_is_told(pool, site):
    task = site.map_task("time.monotonic = lambda: 0.0\n" + "pass\n" * 20_000)
    told: list[Any] = []
    task.progress = lambda fraction, status: told.append(fraction)
    await soon(pool.run(task))
    assert told == []


@pytest_twisted.ensureDeferred
async def test_a_status_is_told_while_its_record_is_still_being_mapped(pool, site):
    task = site.map_task("pytxmr.status('thinking'); wait_for_ever()\n")
    told: Deferred[str] = Deferred()
    task.progress = lambda fraction, status: told.callback(status)
    ended = pool.run(task)
    assert await soon(told) == "thinking"
    pool.kill_attempt(task.job, task.attempt, "enough")
    with pytest.raises(AttemptFailed):
        await soon(ended)


@pytest_twisted.ensureDeferred
async def test_counters_and_imports_do_not_leak_into_the_next_attempt_nor_the_job_run_twice(
    pool, site
):
    await soon(pool.run(site.map_task("pytxmr.counter('a'); imported.append(1)\n")))
    task = site.map_task("pytxmr.counter(f'imported {len(imported)}')\n")
    assert (await soon(pool.run(task)))["user_counters"] == {"imported 2": 1}


@pytest_twisted.ensureDeferred
async def test_tasks_wait_for_a_worker_and_all_run(reactor, site):
    pool = WorkerPool(reactor, 2)
    pool.start()
    try:
        tasks = [site.map_task("pass\n") for _ in range(12)]
        for answer in [pool.run(task) for task in tasks]:
            await soon(answer)
        assert 1 <= len({dict(site.pairs(task))["pid"] for task in tasks}) <= 2
    finally:
        await soon(pool.stop())


# ---- failures


@pytest_twisted.ensureDeferred
async def test_the_user_s_exception_comes_with_its_traceback_and_where(pool, site):
    task = site.map_task("pass\nraise ValueError('bad record')\n")
    with pytest.raises(AttemptFailed, match="the mapper raised ValueError: bad record") as caught:
        await soon(pool.run(task))
    details = caught.value.details
    assert "job.py" in details["traceback"]
    assert "pytxmr/records" not in details["traceback"]
    assert "offset 5" in details["where"]
    assert await pid_of(pool, site), "the worker stays"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("sys.exit(3)", "the mapper raised SystemExit: 3"),
        ("raise KeyboardInterrupt", "the mapper raised KeyboardInterrupt: "),
        ("raise ValueError('x' * 10**7)", "the mapper raised ValueError: xxx"),
        ("raise ValueError('\\udcff')", "the mapper raised ValueError: \\udcff"),
        ("pytxmr.counter('a', 2**70)", "OverflowError"),
        ("pytxmr.counter('a', {1})", "TypeError"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_whatever_the_code_raises_is_told_and_the_worker_stays(pool, site, what, message):
    before = await pid_of(pool, site)
    with pytest.raises(AttemptFailed) as caught:
        await soon(pool.run(site.map_task(what + "\n")))
    assert message in str(caught.value)
    assert not isinstance(caught.value, WorkerDied)
    assert len(str(caught.value)) <= 100_000
    assert await pid_of(pool, site) == before


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by signal 11 (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9 (SIGKILL)"),
        ("os.kill(os.getpid(), 40)", "was killed by signal 40 (a real-time signal)"),
        ("os._exit(3)", "exited with status 3"),
        ("os._exit(0)", "exited with status 0 in the middle of the attempt"),
        ("subprocess.Popen(['sleep', '1000']); os._exit(5)", "exited with status 5"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_a_worker_died_of_is_told_at_once_and_another_takes_its_place(
    pool, site, what, message
):
    with pytest.raises(WorkerDied) as caught:
        await soon(pool.run(site.map_task(what + "\n")), 10)
    assert message in str(caught.value)
    assert await pid_of(pool, site)


@pytest_twisted.ensureDeferred
async def test_a_job_that_does_not_load_fails_for_good(pool, site):
    for _ in range(2):
        with pytest.raises(AttemptFailed, match="ZeroDivisionError") as caught:
            await soon(pool.run(site.map_task("pass\n", "1 / 0\n")))
        assert caught.value.details["final"] is True


@pytest_twisted.ensureDeferred
async def test_a_task_that_cannot_be_sent_to_a_worker_fails_for_good_and_costs_none(pool, site):
    with pytest.raises(AttemptFailed, match="cannot be given this task") as caught:
        await soon(pool.run(site.map_task("pass\n", big=2**70)))
    assert caught.value.details["final"] is True
    assert await pid_of(pool, site)


@pytest.mark.parametrize("what", ["os.write(4, b'A' * 100)", "os.write(4, b'\\xc1')"])
@pytest_twisted.ensureDeferred
async def test_a_worker_whose_answers_make_no_sense_is_killed(pool, site, what):
    with pytest.raises(AttemptFailed, match="nonsense"):
        await soon(pool.run(site.map_task(what + "; wait_for_ever()\n")))
    assert await pid_of(pool, site)


# ---- ends


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


# ---- spawned beforehand


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


@pytest_twisted.ensureDeferred
async def test_a_task_larger_than_a_pipe_arrives(pool, site):
    task = site.map_task("pass\n")
    task.setup.values["params"]["text"] = "x" * 1_000_000
    await soon(pool.run(task))


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


# ---- by hand, without processes


class Fake:
    """A process that is none: remembers what it is told, and ends when the test says so."""

    pid = NO_PID

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.cookie = "no such cookie"
        self.heard: list[Any] = []
        self.killed = False
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        unpacker = msgpack.Unpacker()
        unpacker.feed(data)
        self.heard += unpacker

    def kill(self) -> None:
        self.killed = True

    def answer(self, message: Any) -> None:
        self.protocol.childDataReceived(4, msgpack.packb(message))

    def die(self) -> None:
        self.protocol.processExited(Failure(ProcessTerminated(signal=9)))


class Spawner(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Fake] = []

    def pool(self, workers: int, **more: Any) -> WorkerPool:
        made = WorkerPool(self, workers, spawn=self._spawn, **more)
        made.start()
        return made

    def _spawn(self, reactor: Any, protocol: Any) -> None:
        self.spawned.append(Fake(protocol))


@pytest.fixture
def spawner() -> Spawner:
    return Spawner()


def task(job: str = "Job001", attempt: str = "Map001.0") -> Task:
    setup = Setup({"id": job})
    return Task(job, attempt, {"attempt": attempt}, setup, lambda fraction, status: None)


def test_a_worker_that_is_being_killed_gets_no_other_task(spawner):
    pool = spawner.pool(1)
    first, second = pool.run(task()), pool.run(task(attempt="Map002.0"))
    (process,) = spawner.spawned
    pool.kill_attempt("Job001", "Map001.0", "not needed")
    assert process.killed
    process.answer({"done": {}})  # it had ended before the signal came
    spawner.advance(0)
    assert result_of(first) == {}
    assert process.heard == [{"job": {"id": "Job001"}}, {"attempt": "Map001.0"}]
    process.die()
    assert spawner.spawned[1].heard[-1] == {"attempt": "Map002.0"}
    spawner.spawned[1].answer({"done": {"a": 1}})
    assert result_of(second) == {"a": 1}


def test_a_worker_is_told_its_job_once_and_begins_the_next_task_at_once(spawner):
    pool = spawner.pool(1)
    for number in range(3):
        pool.run(task(attempt=f"Map00{number}.0"))
    (process,) = spawner.spawned
    process.answer({"done": {}})
    process.answer({"done": {}})
    assert process.heard == [
        {"job": {"id": "Job001"}},
        *({"attempt": f"Map00{number}.0"} for number in range(3)),
    ]


def test_an_idle_worker_makes_room_for_another_job(spawner):
    pool = spawner.pool(1)
    first = pool.run(task())
    spawner.spawned[0].answer({"done": {}})
    result_of(first)
    second = pool.run(task("Job002"))
    assert spawner.spawned[0].killed
    spawner.spawned[0].die()
    spawner.spawned[1].answer({"failed": {"code": "worker-died", "message": "x"}})
    with pytest.raises(WorkerDied):
        result_of(second)


def test_workers_that_die_blank_are_not_replaced_in_a_storm(spawner, logged):
    spawner.pool(2)
    spawner.spawned[0].die()
    assert len(spawner.spawned) == 2
    spawner.advance(1.0)
    assert len(spawner.spawned) == 3
    assert len(logged.flush()) == 1


def test_spares_are_spawned_when_a_job_ends(spawner):
    pool = spawner.pool(1)
    result_of_answer(spawner, pool.run(task()))
    pool.retire("Job001")
    spawner.spawned[0].die()
    assert len(spawner.spawned) == 2


def test_without_spares_a_worker_is_spawned_when_there_is_a_task_for_it(spawner):
    pool = spawner.pool(1, spares=False)
    result_of_answer(spawner, pool.run(task()))
    pool.retire("Job001")
    spawner.spawned[0].die()
    assert len(spawner.spawned) == 1
    answer = pool.run(task("Job002"))
    assert len(spawner.spawned) == 2
    result_of_answer(spawner, answer)


def test_without_spares_a_worker_that_died_is_replaced_for_a_task_that_waits(spawner):
    pool = spawner.pool(1, spares=False)
    first, second = pool.run(task()), pool.run(task(attempt="Map002.0"))
    spawner.spawned[0].die()
    with pytest.raises(WorkerDied):
        result_of(first)
    result_of_answer(spawner, second)


def result_of_answer(spawner: Spawner, answer: Deferred[Any]) -> None:
    """The latest worker answers."""
    spawner.spawned[-1].answer({"done": {}})
    assert result_of(answer) == {}


def test_errors_of_workers_arrive_as_themselves(spawner):
    pool = spawner.pool(1)
    ended = pool.run(task())
    plain = {"code": "uncarryable", "message": "no", "details": {"final": True}}
    spawner.spawned[0].answer({"failed": plain})
    with pytest.raises(PytxmrError, match="^no$") as caught:
        result_of(ended)
    assert caught.value.code == "uncarryable"
    assert caught.value.details == {"final": True}
