"""Real daemons on loopback, and how much memory each process of a job takes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measure import Command, Failed, end_group, run_ours

_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_SAMPLE_SECONDS = 0.05
_ASK_SECONDS = 0.02


class Cluster:
    """A jobtracker and tasktrackers, started when it is entered, ended when it is left."""

    def __init__(self, bench: Bench, trackers: int, workers: int) -> None:
        self._bench = bench
        self._trackers = trackers
        self._workers = workers
        self._directory = bench.runner.path("cluster")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.secret = self._directory / "secret"
        self.endpoint = ""
        #: The port of each tracker's KeyValueStore on 127.0.0.1, by its name.
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes.values()):
            end_group(process)

    def _start(self) -> None:
        self._directory.mkdir()
        pytxmr = self._bench.python.with_name("pytxmr")
        run_ours(self._bench.runner, Command([pytxmr, "secret", self.secret]))
        secret = f"--secret-file={self.secret}"
        self._start_jobtracker(0)
        for number in range(1, self._trackers + 1):
            name = f"tracker{number}"
            self._daemon(
                name,
                "tasktracker",
                secret,
                f"--jobtracker={self.endpoint}",
                "--kv-listen=tcp:0:interface=127.0.0.1",
                f"--work-dir={self._directory / name}",
                f"--workers={self._workers}",
                f"--name={name}",
            )
        for number in range(1, self._trackers + 1):
            name = f"tracker{number}"
            self._announced(name, rf"registered as ({name}\.\d+)")
            self.ports[name] = int(self._announced(name, r"tasktracker is ready at \S*:(\d+)"))

    def _start_jobtracker(self, port: int) -> None:
        self._daemon(
            "jobtracker",
            "jobtracker",
            f"--secret-file={self.secret}",
            f"--state-dir={self._directory / 'state'}",
            f"--listen=tcp:{port}:interface=127.0.0.1",
        )
        self.endpoint = self._announced("jobtracker", r"jobtracker is ready at (\S+)")

    def restart_jobtracker(self) -> None:
        """``kill -9``, and another one at once, on the same port and state."""
        end_group(self.processes["jobtracker"], signal.SIGKILL)
        self._start_jobtracker(int(self.endpoint.rpartition(":")[2]))

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def _daemon(self, name: str, *words: str) -> None:
        with self._log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(self._bench.twistd), "-n", "--pidfile=", *words],
                cwd=self._directory,
                env=self._bench.runner.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _announced(self, name: str, pattern: str) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.processes[name].poll() is None:
            found = re.search(pattern, self._log(name).read_text(errors="replace"))
            if found:
                return found[1]
            time.sleep(_POLL_SECONDS)
        said = self._log(name).read_text(errors="replace").strip().rpartition("\n")[2]
        raise Failed(f"the {name} does not start: {said[:300]}")

    def run(self, job: str, *words: str | Path, output: str = "ours") -> Command:
        """``pytxmr run`` of one of the jobs on this cluster."""
        path = self._bench.runner.path(output)
        where = ("--jobtracker", self.endpoint, "--secret-file", self.secret)
        return Command(self._bench.run_words(job, *words, *where, "--output", path), path)


class MemoryWatch:
    """Samples the peak resident memory of all processes below this one, while it is entered.

    ``roots`` names those that run already; what is started meanwhile is a client, and what any of
    them starts, a worker.
    The peak is the kernel's own (VmHWM), so that between two samples nothing is lost but the last
    moments of a process's life.
    """

    def __init__(self, roots: dict[str, int]) -> None:
        self._roots = {pid: name for name, pid in roots.items()}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._peaks: dict[tuple[str, int], int] = {}

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def peaks(self) -> dict[str, float]:
        """By what a process is ("jobtracker", "tracker1", "worker"), the largest peak, in MiB."""
        largest: defaultdict[str, float] = defaultdict(float)
        for (name, _), kibibytes in self._peaks.items():
            largest[name] = max(largest[name], kibibytes / 1024)
        return dict(largest)

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name of a process, in parentheses, may itself have spaces and parentheses.
                fields = path.read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(path.parent.name)] = int(fields[1])
        for pid in parents:
            name = self._name(pid, parents)
            if name:
                peak = _peak_kibibytes(pid)
                self._peaks[name, pid] = max(peak, self._peaks.get((name, pid), 0))

    def _name(self, pid: int, parents: dict[int, int]) -> str:
        if pid in self._roots:
            return self._roots[pid]
        above = parents[pid]
        if above == os.getpid():
            return "client"
        while above in parents:
            if above in self._roots:
                return "worker"
            above = parents[above]
        return ""


class AnswerWatch:
    """Asks each tracker's port for a map that there is not, over and over, while it is entered.

    What answers is the reactor that also renews the tracker's lease and moves its spills, so the
    time of an answer is what a heartbeat would wait.
    """

    def __init__(self, ports: dict[str, int]) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in ports}
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=found, daemon=True) for found in ports.items()
        ]

    def __enter__(self) -> AnswerWatch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _watch(self, name: str, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            answers = connection.makefile("rb")
            while not self._ended.wait(_ASK_SECONDS):
                began = time.perf_counter()
                connection.sendall(b"Job999@Map001@0\n")
                if not answers.readline().startswith(b"!"):
                    return
                self.seconds[name].append(time.perf_counter() - began)


def _peak_kibibytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) if found else 0
