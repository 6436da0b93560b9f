"""A cluster of daemons, as its users and whoever runs it meet it."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import (
    EXAMPLES,
    PYTXMR,
    SECONDS,
    WORDCOUNT,
    Cluster,
    Death,
    Gate,
    Process,
    Site,
    word_counts,
)

pytestmark = pytest.mark.daemons

README = EXAMPLES / "data" / "README.md"
GATED = """
def mapper(key, value):
    gate({gate!r})
    for word in value.split():
        yield word.lower(), 1

def reducer(key, values):
    yield key, sum(values)
"""


@pytest.fixture
def on_cluster(site: Site, cluster: Cluster) -> Site:
    """A site whose commands go to the shared cluster."""
    site.env |= cluster.client_env
    return site


def submitted(site: Site, *words: object) -> str:
    """`pytxmr submit`; the job's id, which is all it says."""
    done = site.pytxmr("submit", *words)
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"Job\d{3,}\n", done.out)
    return done.out.strip()


def gated_job(site: Site, gate: Gate) -> Path:
    site.write("in.txt", "a b a\n")
    return site.write("job.py", Gate.SOURCE + GATED.format(gate=str(gate.directory)))


def state_of(site: Site, job: str) -> str:
    """What `pytxmr jobs` says of the job's state."""
    rows = [line.split() for line in site.pytxmr("jobs").out.splitlines()]
    assert rows[0][:5] == ["JOB", "STATE", "MAPS", "REDUCES", "SECONDS"]
    return next(row[1] for row in rows if row[0] == job)


# ---- jobs


def test_submit_prints_the_id_and_returns_while_the_job_runs(
    on_cluster: Site, cluster: Cluster, gate: Gate
) -> None:
    job = submitted(on_cluster, gated_job(on_cluster, gate), "in.txt", "-o", "out")
    gate.reached()
    assert state_of(on_cluster, job) == "mapping"
    status = on_cluster.pytxmr("status", job)
    assert status.status == 0
    assert status.out.startswith(
        f"{job} mapping  job.py\n  mapping: map 0/1, reduce 0/3, 1 running"
    )
    waiting = on_cluster.start(*PYTXMR, "wait", job)
    waiting.saw(f"^{job} mapping: map 0/1")
    gate.open()
    assert waiting.ended() == 0
    assert f"{job} succeeded in" in waiting.out
    assert state_of(on_cluster, job) == "succeeded"
    assert word_counts(on_cluster.parts()) == {"a": 2, "b": 1}
    counters = dict(
        line.split("\t") for line in on_cluster.pytxmr("counters", job).out.splitlines()
    )
    assert counters["map input records"] == "1"
    assert counters["map output records"] == "3"
    assert cluster.jobs_on_disk() == []


def test_run_on_a_cluster_waits_and_tells_the_summary(on_cluster: Site) -> None:
    done = on_cluster.pytxmr("run", WORDCOUNT, README, "--output", "out")
    assert done.status == 0
    assert "succeeded in" in done.out
    assert word_counts(on_cluster.parts()) == Counter(README.read_text().lower().split())


def test_relative_paths_are_the_clients(on_cluster: Site) -> None:
    on_cluster.write("in.txt", "here\n")
    job = submitted(on_cluster, WORDCOUNT, "in.txt", "-o", "deep/below/out")
    assert on_cluster.pytxmr("wait", job).status == 0
    assert word_counts(on_cluster.parts("deep/below/out")) == {"here": 1}


def test_failed_job_has_status_1_for_whoever_waits(on_cluster: Site, cluster: Cluster) -> None:
    on_cluster.write("in.txt", "a\n")
    source = "def mapper(key, value):\n    yield value\nreducer = mapper\n"
    before = on_cluster.listing() | {"job.py"}
    bad = on_cluster.write("job.py", source)
    job = submitted(on_cluster, bad, "in.txt", "-o", "out")
    waited = on_cluster.pytxmr("wait", job)
    assert waited.status == 1
    assert f'File "{bad}", line 2, in mapper' in waited.err
    assert state_of(on_cluster, job) == "failed"
    assert "not a pair" in on_cluster.pytxmr("status", job).out
    assert on_cluster.listing() == before
    assert cluster.jobs_on_disk() == []


def test_killed_job_leaves_nothing_but_its_line(
    on_cluster: Site, cluster: Cluster, gate: Gate
) -> None:
    job_file = gated_job(on_cluster, gate)
    before = on_cluster.listing()
    job = submitted(on_cluster, job_file, "in.txt", "-o", "out", "--keep")
    worker = Death(gate.reached())
    killed = on_cluster.pytxmr("kill", job)
    assert killed.status == 0
    assert killed.out.startswith(f"{job} killed")
    worker.wait()
    assert state_of(on_cluster, job) == "killed"
    assert on_cluster.listing() == before
    assert cluster.jobs_on_disk() == []
    assert on_cluster.pytxmr("kill", job).status == 0
    waited = on_cluster.pytxmr("wait", job)
    assert waited.status == 1
    assert waited.err == f"pytxmr: {job} was killed: by `pytxmr kill`\n"


def test_job_has_the_workers_of_every_tracker(
    on_cluster: Site, cluster: Cluster, gate: Gate
) -> None:
    job_file = gated_job(on_cluster, gate)
    on_cluster.write("in.txt", "a\n" * 3)
    words = [job_file, "in.txt", "-o", "out", "--split-size", 2, "--reducers", 2]
    job = submitted(on_cluster, *words)
    workers = [gate.reached() for _ in range(3)]
    parents = Counter(int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in workers)
    assert parents == {cluster.trackers["early"].pid: 1, cluster.trackers["late"].pid: 2}
    for _ in workers:
        gate.open()
    assert on_cluster.pytxmr("wait", job).status == 0
    assert word_counts(on_cluster.parts()) == {"a": 3}


def test_several_jobs_at_once_do_not_mix(on_cluster: Site) -> None:
    texts = {f"out{number}": f"job {number} " * (number + 1) for number in range(4)}
    running = []
    for output, text in texts.items():
        path = on_cluster.write(f"{output}.txt", text)
        words = ["run", WORDCOUNT, path, "--output", output, "--split-size", 5]
        running.append(on_cluster.start(*PYTXMR, *words))
    assert [process.ended() for process in running] == [0] * 4
    assert len({process.out.split()[0] for process in running}) == 4
    for output, text in texts.items():
        assert word_counts(on_cluster.parts(output)) == Counter(text.split())


@pytest.mark.parametrize("command", ["status", "wait", "kill", "destroy"])
def test_unknown_job_is_named(on_cluster: Site, command: str) -> None:
    done = on_cluster.pytxmr(command, "Job999")
    assert done.status == 2
    assert done.out == ""
    assert done.err == "pytxmr: there is no Job999; `pytxmr jobs` lists them\n"


def test_running_job_is_not_destroyed(on_cluster: Site, gate: Gate) -> None:
    job = submitted(on_cluster, gated_job(on_cluster, gate), "in.txt", "-o", "out")
    gate.reached()
    refused = on_cluster.pytxmr("destroy", job)
    assert refused.status == 2
    assert f"{job} is mapping; `pytxmr kill {job}` ends it" in refused.err
    gate.open()
    assert on_cluster.pytxmr("wait", job).status == 0


def test_trackers_lists_each_with_its_workers_and_address(
    on_cluster: Site, cluster: Cluster
) -> None:
    rows = [line.split() for line in on_cluster.pytxmr("trackers").out.splitlines()]
    assert rows[0] == ["TRACKER", "WORKERS", "BUSY", "AVOIDED", "SERVES"]
    assert sorted([row[0].split(".")[0], *row[1:]] for row in rows[1:]) == [
        ["early", "1", "0", "no", f"127.0.0.1:{cluster.store_port('early')}"],
        ["late", "2", "0", "no", f"127.0.0.1:{cluster.store_port('late')}"],
    ]


def test_a_tasktracker_whose_name_is_taken_ends_and_says_who_has_it(
    on_cluster: Site, cluster: Cluster
) -> None:
    trackers = on_cluster.pytxmr("trackers").out
    second = on_cluster.twistd(
        "tasktracker", "--kv-listen", "tcp:0:interface=127.0.0.1", "--name", "late"
    )
    assert second.ended() == 1
    at = f"127\\.0\\.0\\.1:{cluster.store_port('late')}"
    assert re.fullmatch(
        rf"tasktracker: the name late is taken: late\.\d+ at {at}, which has been connected for "
        r"\d+ seconds, answers to it; choose another --name\n",
        second.err,
    )
    assert on_cluster.pytxmr("trackers").out == trackers


# ---- telnet


class Telnet:
    """A connection to a tasktracker's store, with lines ended as ``ending`` says."""

    def __init__(self, port: int, ending: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._lines = self._socket.makefile("rb")
        self._ending = ending

    def ask(self, request: str) -> list[str]:
        """The lines of the answer to an address, up to its footer or error."""
        self._socket.sendall(request.encode() + self._ending)
        answer = []
        while True:
            line = self._lines.readline().decode()
            assert line.endswith("\n"), "the connection ended"
            answer.append(line.removesuffix("\n"))
            if line[0] in "#!":
                return answer

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@pytest.fixture(params=[b"\n", b"\r\n"], ids=["LF", "CRLF"])
def telnets(request, cluster: Cluster) -> Iterator[list[Telnet]]:
    """A connection to each tracker."""
    made = [Telnet(cluster.store_port(name), request.param) for name in ("early", "late")]
    yield made
    for telnet in made:
        telnet.close()


def test_kept_spills_can_be_inspected_until_they_are_destroyed(
    on_cluster: Site, cluster: Cluster, telnets: list[Telnet]
) -> None:
    words = ["run", WORDCOUNT, README, "--output", "out", "--keep", "--reducers", 2]
    done = on_cluster.pytxmr(*words, "--split-size", 400)
    assert done.status == 0
    job = done.out.split()[0]
    maps = int(re.search(r"(\d+) maps", done.out)[1])
    assert maps > 1
    found: Counter[str] = Counter()
    for number in range(1, maps + 1):
        for partition in (0, 1):
            address = f"{job}@Map{number:03}@{partition}"
            answers = [telnet.ask(address) for telnet in telnets]
            (answer,) = [lines for lines in answers if lines[-1].startswith("#")]
            pairs = [json.loads(line) for line in answer[:-1]]
            keys = [key for key, _ in pairs]
            assert keys == sorted(set(keys))
            footer = re.fullmatch(r"# (\d+) pairs, (\d+) keys, (\d+) bytes", answer[-1])
            assert int(footer[1]) == int(footer[2]) == len(keys)
            found.update(dict(pairs))
    assert found == Counter(README.read_text().lower().split())
    assert found == word_counts(on_cluster.parts())
    for telnet in telnets:
        for wrong in (f"{job}@Map999@0", f"{job}@Map001@9", "Job999@Map001@0", "Job001@", "what"):
            assert [line[0] for line in telnet.ask(wrong)] == ["!"]
    assert on_cluster.pytxmr("destroy", job).status == 0
    for telnet in telnets:
        assert telnet.ask(f"{job}@Map001@0")[0].startswith("! not-found:")
    assert cluster.jobs_on_disk() == []


# ---- daemons that end


@pytest.fixture
def own(tmp_path_factory) -> Iterator[Cluster]:
    """A cluster of the test's own, with one tracker of one worker."""
    site = Site(tmp_path_factory.mktemp("own"))
    try:
        made = Cluster(site)
        made.start_jobtracker()
        made.start_tracker("one")
        made.joined("one")
        yield made
    finally:
        site.close()


def ended_cleanly(daemon: Process) -> None:
    """SIGTERM has ended it, which of twistd is to end by the signal at last."""
    assert daemon.stop() == 128 + signal.SIGTERM
    assert "Server Shut Down." in daemon.out
    assert "Traceback" not in daemon.out + daemon.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_job_goes_on_when_the_jobtracker_is_started_again(
    site: Site, own: Cluster, gate: Gate, number: signal.Signals
) -> None:
    site.env |= own.client_env
    job = gated_job(site, gate)
    running = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out")
    busy = gate.reached()
    if number == signal.SIGTERM:
        ended_cleanly(own.jobtracker)
    else:
        own.jobtracker.stop(number)
    running.saw("waiting for it to come back")
    own.trackers["one"].saw("the connection to the jobtracker is lost")
    assert busy in own.site.processes()
    gate.open()
    own.start_jobtracker().saw("Job001 goes on: mapping")
    assert running.ended() == 0
    assert word_counts(site.parts()) == {"a": 2, "b": 1}
    assert "Traceback" not in running.err + own.jobtracker.out + own.trackers["one"].out
    listed = site.pytxmr("jobs", "--all").out.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["Job001", "succeeded"]]
    assert own.jobs_on_disk() == []
    own.close()
    own.site.assert_clean()


def test_job_goes_on_elsewhere_when_its_tasktracker_stops(
    site: Site, own: Cluster, gate: Gate
) -> None:
    site.env |= own.client_env
    words = ["run", gated_job(site, gate), "in.txt", "--output", "out"]
    running = site.start(*PYTXMR, *words)
    worker = Death(gate.reached())
    ended_cleanly(own.trackers["one"])
    worker.wait()
    assert own.jobs_on_disk() == []
    own.start_tracker("two")
    gate.reached()
    gate.open()
    assert running.ended() == 0
    assert word_counts(site.parts()) == {"a": 2, "b": 1}
    own.trackers.pop("one")
    own.close()
    own.site.assert_clean()


def test_workers_of_a_killed_tasktracker_die_and_its_successor_owns_nothing(
    site: Site, own: Cluster, gate: Gate
) -> None:
    site.env |= own.client_env
    words = ["run", gated_job(site, gate), "in.txt", "--output", "out"]
    running = site.start(*PYTXMR, *words)
    busy = gate.reached()
    tracker = own.trackers["one"]
    workers = [
        Death(pid) for pid, command in own.site.processes().items() if "pytxmr.worker" in command
    ]
    assert workers
    assert busy in own.site.processes()
    assert tracker.stop(signal.SIGKILL) == 128 + signal.SIGKILL
    for worker in workers:
        worker.wait()
    assert set(own.site.processes()) == {own.jobtracker.pid}
    assert own.jobs_on_disk() != []
    own.start_tracker("one")
    own.joined("one")
    gate.reached()
    gate.open()
    assert running.ended() == 0
    assert word_counts(site.parts()) == {"a": 2, "b": 1}
    assert own.jobs_on_disk() == []
    own.close()
    own.site.assert_clean()


def test_logs_are_followed_from_the_first_line_to_the_end_of_the_job(
    cluster: Cluster, gate: Gate, tmp_path: Path
) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        Gate.SOURCE
        + f"""
def mapper(key, value):
    print("before")
    gate({str(gate.directory)!r})
    print("after", end="")
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""
    )
    (tmp_path / "in.txt").write_text("a\n")
    words = ["submit", job, tmp_path / "in.txt", "--output", tmp_path / "out"]
    name = cluster.site.pytxmr(*words).out.strip()
    gate.reached()
    following = cluster.site.start(*PYTXMR, "logs", name, "--follow")
    following.saw(rf"^=== {name}@Map001\.0 on \w+\.\d+$\n^before$")
    gate.open()
    assert following.ended() == 0, following.err
    assert following.out.endswith("\nbefore\nafter\n")
    assert following.out.count("before") == 1
    other = cluster.site.pytxmr("logs", name, "--follow", "--task", "Reduce000")
    assert (other.status, other.out) == (0, "")
    assert cluster.site.pytxmr("destroy", name).status == 0
