"""A signal at any phase of a job ends the command, and nothing of the job is left."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import PYTXMR, WORDCOUNT, Cluster, Death, Gate, Process, Site

# The gate is reached in one process: the client's own, a worker's, or the jobtracker's.
JOB = """
AT = {at!r}
IN_WORKER = "PYTXMR_WORKER" in os.environ

def come_to(place):
    if AT == place:
        gate({gate!r})

come_to("importing" if IN_WORKER else "planning")

def mapper(key, value):
    come_to("mapping")
    for word in value.split():
        yield word, 1

def reducer(key, values):
    come_to("reducing")
    yield key, sum(values)
"""

# Runs a command as its script would, but with a gate where the output is about to be committed, and
# the jobtracker says when it knows that it shall kill a job.
GATED_COMMIT = """
import sys
from twisted.internet.defer import Deferred
{gate_source}
from pytxmr.jobbook import JobBook
from pytxmr.storage.output import OutputDirectory

commit, kill = OutputDirectory.commit, JobBook.kill

def gated_commit(*arguments):
    gate({gate!r})
    commit(*arguments)

def told_kill(*arguments):
    killing = Deferred.fromCoroutine(kill(*arguments))
    print("the kill is known", file=sys.stderr, flush=True)
    return killing

OutputDirectory.commit, JobBook.kill = gated_commit, told_kill
"""


def gated_job(site: Site, gate: Gate, at: str) -> Path:
    site.write("in.txt", "a b\n")
    directory = str(gate.directory)
    return site.write("job.py", Gate.SOURCE + JOB.format(at=at, gate=directory))


def gated_commit(gate: Gate) -> str:
    return GATED_COMMIT.format(gate_source=Gate.SOURCE, gate=str(gate.directory))


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("planning", signal.SIGINT),
        ("importing", signal.SIGINT),
        ("mapping", signal.SIGINT),
        ("reducing", signal.SIGINT),
        ("planning", signal.SIGTERM),
        ("mapping", signal.SIGTERM),
        ("reducing", signal.SIGHUP),
    ],
)
def test_interrupted_run_leaves_nothing(
    site: Site, gate: Gate, phase: str, number: signal.Signals
) -> None:
    job = gated_job(site, gate, phase)
    before = site.listing()
    process = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out", "--workers", 1)
    gate.reached()
    process.send(number)
    assert process.ended(10) == 128 + number
    assert "Traceback" not in process.err
    assert process.out == ""
    if phase != "planning":
        assert process.err.endswith("pytxmr: Job001 was killed: interrupted\n")
    assert site.listing() == before
    site.assert_clean()


def test_run_interrupted_while_it_commits_leaves_nothing(site: Site, gate: Gate) -> None:
    job = gated_job(site, gate, "nowhere")
    before = site.listing()
    script = gated_commit(gate) + "from pytxmr.cli import main\nsys.exit(main())"
    words = ["run", job, "in.txt", "--output", "out", "--workers", 1]
    process = site.start(PYTXMR[0], "-c", script, *words)
    gate.reached()
    process.send(signal.SIGINT)
    process.saw("the kill is known")
    gate.open()
    assert process.ended(10) == 130
    assert process.out == ""
    assert site.listing() == before


def test_kept_spills_are_gone_when_their_inspection_is_interrupted(site: Site) -> None:
    site.write("in.txt", "a b\n")
    words = ["run", WORDCOUNT, "in.txt", "--output", "out", "--workers", 1, "--keep"]
    process = site.start(*PYTXMR, *words)
    process.saw("^The spills are kept: telnet 127.0.0.1")
    process.send(signal.SIGINT)
    assert process.ended(10) == 0
    assert site.parts() == [b"a\t1\nb\t1\n"]


def test_signal_that_is_to_be_ignored_is_ignored(site: Site, gate: Gate) -> None:
    job = gated_job(site, gate, "mapping")
    words = [*PYTXMR, "run", job, "in.txt", "--output", "out", "--workers", 1]
    process = site.start("nohup", *words)
    gate.reached()
    process.send(signal.SIGHUP)
    gate.open()
    assert process.ended(10) == 0
    assert site.parts() == [b"a\t1\nb\t1\n"]


# ---- on a cluster, the command's end is the job's, and the cluster goes on


def listed(cluster: Cluster, job: str) -> str:
    """The job's line in `pytxmr jobs`."""
    jobs = cluster.site.pytxmr("jobs").out.splitlines()
    return next(line for line in jobs if line.startswith(job + " "))


def interrupted_job(cluster: Cluster, process: Process, number: signal.Signals) -> str:
    """Interrupt a `pytxmr run`, which must end and kill its job; returns the job's id."""
    process.send(number)
    assert process.ended(10) == 128 + number
    assert process.out == ""
    assert "Traceback" not in process.err
    job = process.saw(r"^pytxmr: (Job\d+) was killed: interrupted$")[1]
    assert listed(cluster, job).split()[1] == "killed"
    return job


@pytest.mark.daemons
@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("mapping", signal.SIGINT),
        ("reducing", signal.SIGINT),
        ("reducing", signal.SIGTERM),
    ],
)
def test_interrupted_run_on_a_cluster_kills_its_job(
    site: Site, gate: Gate, cluster: Cluster, phase: str, number: signal.Signals
) -> None:
    job = gated_job(site, gate, phase)
    before = site.listing()
    site.env |= cluster.client_env
    process = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out", "--reducers", 1)
    worker = Death(gate.reached())
    interrupted_job(cluster, process, number)
    worker.wait()
    assert site.listing() == before
    assert cluster.jobs_on_disk() == []


@pytest.mark.daemons
def test_run_interrupted_while_it_is_planned_submits_nothing(
    site: Site, gate: Gate, cluster: Cluster
) -> None:
    job = gated_job(site, gate, "planning")
    before = site.listing()
    jobs = cluster.site.pytxmr("jobs").out
    site.env |= cluster.client_env
    process = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out")
    gate.reached()
    process.send(signal.SIGINT)
    assert process.ended(10) == 130
    assert site.listing() == before
    assert [line.split()[0] for line in cluster.site.pytxmr("jobs").out.splitlines()] == [
        line.split()[0] for line in jobs.splitlines()
    ]


@pytest.fixture
def committing_cluster(tmp_path_factory, gate: Gate) -> Iterator[Cluster]:
    """Its jobtracker stops at the gate before each commit."""
    site = Site(tmp_path_factory.mktemp("committing"))
    twistd = gated_commit(gate) + "from twisted.scripts.twistd import run\nsys.exit(run())"
    try:
        made = Cluster(site)
        made.start_jobtracker([PYTXMR[0], "-c", twistd])
        made.start_tracker("only")
        made.joined("only")
        yield made
        made.close()
        site.assert_clean()
    finally:
        site.close()


@pytest.mark.daemons
def test_run_on_a_cluster_interrupted_while_it_commits_leaves_nothing(
    site: Site, gate: Gate, committing_cluster: Cluster
) -> None:
    job = gated_job(site, gate, "nowhere")
    before = site.listing()
    site.env |= committing_cluster.client_env
    process = site.start(*PYTXMR, "run", job, "in.txt", "--output", "out")
    gate.reached()
    process.send(signal.SIGINT)
    committing_cluster.jobtracker.saw("the kill is known")
    gate.open()
    assert process.ended(10) == 130
    assert listed(committing_cluster, "Job001").split()[1] == "killed"
    assert site.listing() == before
    assert committing_cluster.jobs_on_disk() == []


# ---- before there is a job


def test_command_that_waits_for_a_silent_jobtracker_can_be_interrupted(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        secret = site.write("secret", "0" * 64)
        secret.chmod(0o600)
        at = f"tcp:127.0.0.1:{silent.getsockname()[1]}"
        process = site.start(*PYTXMR, "jobs", "--jobtracker", at, "--secret-file", secret)
        silent.settimeout(20)
        connection, _ = silent.accept()
        with connection:
            process.send(signal.SIGINT)
            assert process.ended(5) == 130
    assert process.err == ""
