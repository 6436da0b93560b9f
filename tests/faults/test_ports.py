"""Daemons as they run, and what anybody can do to their ports."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "end_to_end"))

from processes import PYTXMR, SECONDS, TWISTD, WORDCOUNT, Cluster, Gate, Process, Site, word_counts

pytestmark = pytest.mark.daemons

DAEMONS = ("jobtracker", "tasktracker")
GATED = """
def mapper(key, value):
    gate({gate!r})
    for word in value.split():
        yield word.lower(), 1

def reducer(key, values):
    yield key, sum(values)
"""


def started(site: Site, launcher: tuple[object, ...] = TWISTD) -> Cluster:
    """A cluster with one tracker, all daemons started by ``launcher``."""
    made = Cluster(site)
    made.start_jobtracker(launcher)
    made.trackers["one"] = site.twistd(
        "tasktracker", "--kv-listen", "tcp:0:interface=127.0.0.1", "--name", "one",
        "--work-dir", made.work_dir("one"), "--workers", 1, launcher=launcher,
    )  # fmt: skip
    made.joined("one")
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    site = Site(tmp_path_factory.mktemp("cluster"))
    try:
        made = started(site)
        yield made
        made.close()
        site.assert_clean()
    finally:
        site.close()


@pytest.fixture
def site(tmp_path_factory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        yield made
        made.assert_clean()
    finally:
        made.close()


def counts_words(cluster: Cluster, site: Site, output: str) -> None:
    """A job on the cluster has the right result."""
    site.env |= cluster.client_env
    site.write("in.txt", "b a b\n")
    done = site.pytxmr("run", WORDCOUNT, "in.txt", "--output", output)
    assert done.status == 0, done.err
    # On a busy machine it has the time to tell how far it is.
    assert re.sub(r"^Job\d+ .*\n", "", done.err, flags=re.M) == ""
    assert word_counts(site.parts(output)) == {"a": 1, "b": 2}


def port_of(cluster: Cluster, which: str) -> tuple[Process, int]:
    if which == "jobtracker":
        return cluster.jobtracker, int(cluster.endpoint.rpartition(":")[2])
    return cluster.trackers["one"], cluster.store_port("one")


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), SECONDS)


def ended(connection: socket.socket) -> bytes:
    """Wait until the other end has closed or reset the connection; what it said before."""
    heard = b""
    try:
        while data := connection.recv(65_536):
            heard += data
    except ConnectionError:
        pass
    return heard


def resident_bytes(process: Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.M)[1])


def processor_seconds(process: Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- strangers

GARBAGE = {
    "random bytes": random.Random(4).randbytes(4_000_000),
    "zeros": bytes(4_000_000),
    "ones": b"\xff" * 4_000_000,
    "a line without end": b"x" * 4_000_000,
    "lines": b"x\n" * 20_000,
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser\r\nAccept: */*\r\n\r\n",
    "nested lists": b"\x02\x82pb" + b"\x01\x80" * 200_000,
    "a list of giant total": b"\x02\x82pb" + b"\x00\x00\x28\x80" + b"\x00\x80" * 2_000_000,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_ends_its_connection_and_costs_little(
    cluster: Cluster, site: Site, kind: str
) -> None:
    for which in DAEMONS:
        daemon, port = port_of(cluster, which)
        memory, processor = resident_bytes(daemon), processor_seconds(daemon)
        for _ in range(5):
            with connect(port) as stranger:
                try:
                    stranger.sendall(GARBAGE[kind])
                    stranger.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # It has hung up, as it may before all is sent.
                ended(stranger)
        assert resident_bytes(daemon) - memory < 32 << 20, which
        assert processor_seconds(daemon) - processor < 15, which
    counts_words(cluster, site, "out")


def test_whoever_wants_tls_is_not_answered_and_costs_little(cluster: Cluster, site: Site) -> None:
    context = ssl.create_default_context()
    for which in DAEMONS * 5:
        hello = ssl.MemoryBIO()
        wanted = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            wanted.do_handshake()
        with connect(port_of(cluster, which)[1]) as stranger:
            stranger.sendall(hello.read())
            if which == "tasktracker":  # which waits for the end of the line, for a minute
                stranger.shutdown(socket.SHUT_WR)
            assert b"\x16\x03" not in ended(stranger)
    counts_words(cluster, site, "out")


def test_without_the_secret_nothing_is_submitted_registered_or_pulled(
    cluster: Cluster, site: Site
) -> None:
    counts_words(cluster, site, "out")
    jobs = site.pytxmr("jobs").out
    site.pytxmr("secret", "another")
    site.env["PYTXMR_SECRET_FILE"] = "another"
    submitted = site.pytxmr("submit", WORDCOUNT, "in.txt", "--output", "stolen")
    assert submitted.status != 0
    assert "refused the secret" in submitted.err
    tracker = site.twistd(
        "tasktracker", "--jobtracker", cluster.endpoint, "--kv-listen", "tcp:0:interface=127.0.0.1",
        "--name", "intruder", "--work-dir", "intruder", "--workers", 1,
    )  # fmt: skip
    tracker.saw("refused the secret")
    tracker.stop()
    with connect(cluster.store_port("one")) as stranger:
        for signature in ("", "0" * 64):
            stranger.sendall(f"fetch Job001 Map001.0 0 {signature}\nquit\n".encode())
        assert re.fullmatch(rb"(! (refused|not-found): .*\n)+", ended(stranger))
    site.env |= cluster.client_env
    assert site.pytxmr("jobs").out == jobs
    assert "intruder" not in site.pytxmr("trackers").out
    assert not (site.directory / "stolen").exists()


# ---- file descriptors


@pytest.mark.parametrize("which", DAEMONS)
def test_daemon_without_file_descriptors_turns_away_and_recovers(site: Site, which: str) -> None:
    limited = site.write("limited", LIMITED)
    cluster = started(site, (sys.executable, limited, 64, *TWISTD))
    daemon, port = port_of(cluster, which)
    held: list[socket.socket] = []
    try:
        while True:
            stranger = connect(port)
            held.append(stranger)
            try:
                stranger.sendall(b"help\n" if which == "tasktracker" else b"")
                if not stranger.recv(1):
                    break
            except ConnectionError:
                break
            assert len(held) < 64
        daemon.saw("EMFILE")
    finally:
        for stranger in held:
            stranger.close()
    assert len(held) > 10
    counts_words(cluster, site, "after")
    cluster.close()


LIMITED = """\
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
os.execv(sys.argv[2], sys.argv[2:])
"""


# ---- the time of day

CLOCK = """\
import os, signal, sys, time

if "twistd" in "".join(sys.orig_argv[:2]):
    ahead = times = 0
    true = time.time
    time.time = lambda: true() + ahead

    def set_clock(number, frame):
        global ahead, times
        times += 1
        ahead += 3600 if number == signal.SIGUSR1 else -3600
        os.write(2, b"%d: the clock is %d seconds ahead\\n" % (times, ahead))

    signal.signal(signal.SIGUSR1, set_clock)
    signal.signal(signal.SIGUSR2, set_clock)
"""


def test_daemon_whose_clock_is_set_by_an_hour_goes_on(site: Site) -> None:
    """On, while a job runs, and back, while the next one does: of either daemon, and of both."""
    (site.directory / "clock").mkdir()
    site.write("clock/sitecustomize.py", CLOCK)
    site.env["PYTHONPATH"] = f"{site.directory / 'clock'}{os.pathsep}{site.env['PYTHONPATH']}"
    cluster = started(site)
    site.env |= cluster.client_env
    site.write("in.txt", "b a b\n")
    gate = Gate(site.directory / "gate")
    job = site.write("job.py", Gate.SOURCE + GATED.format(gate=str(gate.directory)))
    daemons = (cluster.jobtracker, cluster.trackers["one"])
    times = dict.fromkeys(daemons, 0)
    settings = ((signal.SIGUSR1, 3600), (signal.SIGUSR2, 0))
    try:
        for which, (number, ahead) in product((daemons[:1], daemons[1:], daemons), settings):
            output = f"out{sum(times.values())}"
            running = site.start(*PYTXMR, "run", job, "in.txt", "--output", output)
            gate.reached()
            for daemon in which:
                daemon.send(number)
                times[daemon] += 1
                daemon.saw(rf"{times[daemon]}: the clock is {ahead} seconds ahead")
            gate.open()
            assert running.ended() == 0
            assert word_counts(site.parts(output)) == {"a": 1, "b": 2}
    finally:
        gate.close()
    counts_words(cluster, site, "after")
    assert cluster.trackers["one"].out.count("registered as one.") == 1, "its lease held"
    cluster.close()
