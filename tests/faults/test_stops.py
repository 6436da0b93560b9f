"""Trackers that are stopped and go on: their leases end, their work is done elsewhere."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest
from faulty import GATED, Faulty, Work, gates
from processes import PYTXMR, TWISTD, Process, Site

pytestmark = pytest.mark.daemons


def test_late_reports_of_a_tracker_that_was_stopped_past_its_lease_are_refused(site: Site) -> None:
    cluster, work = Faulty(site), Work(site, lines=20, source=GATED)
    with gates(site, "one", "two") as (gate_one, gate_two):
        cluster.start(one="worker-map-spilled:1:announce")
        one = cluster.trackers["one"]
        running = work.start(maps=1)
        gate_one.reached()
        one.send(signal.SIGSTOP)
        cluster.start_tracker("two")
        cluster.lost("one")
        gate_two.reached()
        # Its worker is not stopped: what it answers is in the pipe as the tracker goes on.
        gate_one.open()
        one.saw("failpoint worker-map-spilled 1")
        one.send(signal.SIGCONT)
        cluster.came_back("one")
        gate_two.open()
        work.is_done(running)
    listed = site.pytxmr("trackers").out
    assert sorted(re.findall(r"^(one|two)\.", listed, re.M)) == ["one", "two"]
    cluster.close()


#: Each line is a map that puts out 32 MB for each of two reducers.
LARGE = """\
def mapper(key, value):
    for number in range(512):
        yield number, "x" * 131072

def partitioner(key, partitions):
    return key % partitions

def reducer(key, values):
    yield key, sum(map(len, values))
"""
#: twistd, with a server that waits for a reader for one second and not for a minute.
IMPATIENT = """\
import sys
from pytxmr.net import kvserver
from twisted.scripts.twistd import run
kvserver.STALL_SECONDS = 1.0
sys.argv[0] = "twistd"
run()
"""


def test_a_tracker_that_stops_reading_is_dropped_and_costs_its_server_little(site: Site) -> None:
    cluster = Faulty(site)
    cluster.start_jobtracker()
    impatient = site.write("impatient.py", IMPATIENT)
    one = cluster.start_tracker("one", launcher=(sys.executable, impatient))
    two = cluster.start_tracker("two", fail="fetch-receiving:1:stop", launcher=TWISTD)
    cluster.joined("one", "two")
    before = most_resident_bytes(one)
    site.write("in.txt", "a\nb\n")
    job = site.write("job.py", LARGE)
    words = ["run", job, "in.txt", "--split-size", 2, "--reducers", 2, "--output", "out"]
    running = site.start(*PYTXMR, *words)
    two.saw("failpoint fetch-receiving 1")
    one.saw("does not read and is cut off")
    assert most_resident_bytes(one) - before < 16 << 20
    cluster.lost("two")
    assert running.ended() == 0, running.err
    two.send(signal.SIGCONT)
    cluster.registered("two", 2)
    found = sorted(b"".join(site.parts()).splitlines())
    assert found == sorted(f"{number}\t{2 * 131072}".encode() for number in range(512))
    cluster.close()


def most_resident_bytes(process: Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)[1])
