"""Worker processes: they do what they are told, tell what came of it, and of what they died."""

from __future__ import annotations

import os
from typing import Any

import pytest
import pytest_twisted
from pools import WORDCOUNT, Site, pid_of
from twisted.internet.defer import Deferred
from wires import soon

from pytxmr.errors import AttemptFailed, WorkerDied
from pytxmr.net.workers import Task, WorkerPool
from pytxmr.records.spill import open_spill


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


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


@pytest_twisted.ensureDeferred
async def test_a_task_larger_than_a_pipe_arrives(pool, site):
    task = site.map_task("pass\n")
    task.setup.values["params"]["text"] = "x" * 1_000_000
    await soon(pool.run(task))


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
        ("pytxmr.counter('a', 2**70)", "is too large for 64 bits"),
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
