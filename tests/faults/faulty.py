"""Clusters whose daemons die, stop or fail where a test wants it, and what their jobs must give."""

from __future__ import annotations

import json
import random
import re
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager

from processes import PYTXMR, TWISTD, Cluster, Finished, Gate, Process, Site, first_to_end

#: How long these clusters' trackers may be silent. Two cores with much else to do stay below it.
LEASE_SECONDS = 2.0
#: What a command says that has not been logged in.
NOT_REACHED = re.compile("cannot connect to|ended the connection before the login")

JOB = """\
def mapper(key, value):
    word, _, text = value.partition(" ")
    yield word, text

def reducer(key, values):
    yield key, " ".join(sorted(values))
"""

#: The first record waits at a gate of its tracker, which a worker knows by its working directory.
GATED = Gate.SOURCE + JOB.replace(
    "):\n", """):
    if key == 0:
        work_dir = os.getcwd().partition("/jobs/")[0]
        gate("{}/gate-{}".format(*os.path.split(work_dir)))
""", 1
)  # fmt: skip


@contextmanager
def gates(site: Site, *names: str) -> Iterator[list[Gate]]:
    """The gates of these trackers, for `GATED`."""
    with ExitStack() as opened:
        yield [
            opened.enter_context(closing(Gate(site.directory / f"gate-{name}"))) for name in names
        ]


class Faulty(Cluster):
    """A cluster of short leases. ``fail``: the fail points of a daemon and its workers."""

    def start_jobtracker(self, launcher: Iterable[object] = TWISTD, fail: str = "") -> Process:
        self.begin_jobtracker(launcher, fail).saw(r"jobtracker is ready at ")
        return self.jobtracker

    def begin_jobtracker(self, launcher: Iterable[object] = TWISTD, fail: str = "") -> Process:
        port = self.endpoint.rpartition(":")[2]
        self.jobtracker = self.site.twistd(
            "jobtracker", "--listen", f"tcp:{port}:interface=127.0.0.1", "--lease", LEASE_SECONDS,
            "--state-dir", self.site.directory / "jobtracker-state",
            launcher=(*failing(fail), *launcher),
        )  # fmt: skip
        return self.jobtracker

    def start_tracker(
        self, name: str, workers: int = 1, fail: str = "", launcher: Iterable[object] = TWISTD
    ) -> Process:
        tracker = self.site.twistd(
            "tasktracker", "--kv-listen", "tcp:0:interface=127.0.0.1", "--name", name,
            "--work-dir", self.work_dir(name), "--workers", workers,
            launcher=(*failing(fail), *launcher),
        )  # fmt: skip
        self.trackers[name] = tracker
        return tracker

    def start(self, **fails: str) -> None:
        """The jobtracker, and a tracker for each name, with its fail points."""
        self.start_jobtracker()
        for name, fail in fails.items():
            self.start_tracker(name, fail=fail)
        self.joined(*fails)  # in any order

    def was_killed(self, name: str) -> None:
        """Wait for the end of a tracker that kills itself."""
        assert self.trackers.pop(name).ended() == 128 + signal.SIGKILL

    def lost(self, name: str) -> None:
        """Wait until the jobtracker does not believe any more that this tracker lives."""
        self.jobtracker.saw(rf"lost {name}\.\d+: ")

    def registered(self, name: str, times: int) -> None:
        """Wait until that tracker has registered so many times."""
        self.trackers[name].saw("(?s)" + rf"registered as {name}\.\d+\n.*" * times)

    def came_back(self, name: str) -> None:
        """Wait until the tracker, which was the first to register, is another incarnation."""
        self.trackers[name].saw(rf"registered as {name}\.(?!1$)\d+$")

    def close(self) -> None:
        """End all; nothing of any job is left on the disks."""
        super().close()
        assert self.jobs_on_disk() == []


def failing(points: str) -> tuple[str, ...]:
    return ("env", f"PYTXMR_FAILPOINT={points}") if points else ()


class Work:
    """A job and its input, which is random; and what one gets of it by a loop. No attempt has a
    backup unless ``options`` are others."""

    def __init__(
        self,
        site: Site,
        lines: int = 4000,
        width: int = 64,
        keys: int = 300,
        source: str = JOB,
        options: Iterable[object] = ("--no-speculation",),
    ) -> None:
        self.site = site
        self.options = options
        self.job = site.write("job.py", source)
        chance = random.Random(lines)
        self._pairs = [
            (f"word{chance.randrange(keys)}", chance.randbytes(width // 2).hex())
            for _ in range(lines)
        ]
        text = "".join(f"{key} {value}\n" for key, value in self._pairs)
        self.input = site.write("in.txt", text)
        self._bytes = len(text)

    def words(self, maps: int, reducers: int = 2, output: str = "out") -> list[object]:
        size = self._bytes // maps + 1
        named = ["--split-size", size, "--reducers", reducers, "--output", output]
        return [self.job, self.input, *named, *self.options]

    def start(self, maps: int, reducers: int = 2, output: str = "out") -> Process:
        return self.site.start(*PYTXMR, "run", *self.words(maps, reducers, output))

    def run(self, maps: int, reducers: int = 2, output: str = "out") -> Finished:
        return self.site.pytxmr("run", *self.words(maps, reducers, output))

    def submit(self, maps: int, reducers: int = 2, output: str = "out") -> str:
        done = self.site.pytxmr("submit", *self.words(maps, reducers, output))
        assert re.fullmatch(r"Job\d{3,}\n", done.out), done.err
        return done.out.strip()

    def serially(self) -> list[bytes]:
        found: dict[str, list[str]] = {}
        for key, value in self._pairs:
            found.setdefault(key, []).append(value)
        return sorted(f"{key}\t{' '.join(sorted(all_))}".encode() for key, all_ in found.items())

    def is_done(
        self, running: Process | None = None, failed: bool = False, output: str = "out"
    ) -> None:
        """The job has ended well, with the output and the counters of a serial run, and, unless
        attempts have ``failed``, has blamed nobody."""
        if running is not None:
            assert running.ended() == 0, running.err
            assert ("attempts failed" in running.out) == failed, running.out
        serial = self.serially()
        assert sorted(b"".join(self.site.parts(output)).splitlines()) == serial
        manifest = json.loads((self.site.directory / output / "_SUCCESS").read_text())
        counted = {
            "map input records": len(self._pairs),
            "map output records": len(self._pairs),
            "reduce input groups": len(serial),
            "reduce output records": len(serial),
        }
        counters = manifest["counters"]
        assert {name: counters[name] for name in counted} == counted


def killed_at_each_passing(work: Work, points: dict[str, int]) -> tuple[Counter[str], int]:
    """Kill the jobtracker at the first passing of each point, and then again so many passings
    later, a job each, until a job ends first. Each job that was submitted by then must end well.

    Returns how often it was killed at each, and how often of these before the job was submitted.
    """
    site, cluster = work.site, Faulty(work.site)
    cluster.start_tracker("one", workers=2)
    kills: Counter[str] = Counter()
    before = 0
    while True:
        output = f"out{kills.total()}"
        fails = [f"{point}:{kills[point] * step + 1}:kill" for point, step in points.items()]
        daemon = cluster.begin_jobtracker(fail=",".join(fails))
        daemon.saw(r"jobtracker is ready at |failpoint ")
        running = work.start(maps=2, output=output)
        if first_to_end(daemon, running) is running and running.ended() == 0:
            break
        assert daemon.ended() == 128 + signal.SIGKILL
        kills[daemon.saw(r"failpoint (\S+) \d")[1]] += 1
        cluster.start_jobtracker()
        if running.ended() == 0:
            work.is_done(running, output=output)
        else:
            before += 1
            assert NOT_REACHED.search(running.err), running.err
            assert not (site.directory / output).exists()
        cluster.jobtracker.stop()
    work.is_done(running, output=output)
    daemon.stop()  # which may yet reach a point
    cluster.start_jobtracker()
    cluster.close()
    return kills, before
