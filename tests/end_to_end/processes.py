"""Real pytxmr processes: started, waited for by what they say, and seen gone.

A `Site` is a directory to work in. Every process that is started there, and whatever that starts,
has the site's mark in its environment, so that a test can tell that none is left. Nothing here
sleeps: a test waits for a line, for a file descriptor or for a process's end, each with a deadline.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytxmr
from pytxmr.net.secret import make_secret

# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
BOOK = EXAMPLES / "data" / "warandpeace.txt"
WORDCOUNT = EXAMPLES / "wordcount.py"
PYTXMR = (sys.executable, "-m", "pytxmr")
TWISTD = (os.fspath(Path(sys.executable).with_name("twistd")),)
SECONDS = 40.0
#: A test ends before more than the first of Java's compilers pays.
QUICK_JAVA = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}

_MARK = "PYTXMR_TEST_SITE"


def _deaf_to_hangups() -> bool:
    """Were the tests started by nohup? What they start would be deaf as well."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _heed_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Process:
    """A process in the background. Two threads read what it writes, as it writes it."""

    def __init__(self, command: Iterable[object], cwd: Path, env: dict[str, str]) -> None:
        self._popen = subprocess.Popen(
            [os.fspath(word) if isinstance(word, Path) else str(word) for word in command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            preexec_fn=_heed_hangups if _deaf_to_hangups() else None,
        )
        self.pid = self._popen.pid
        self._written = threading.Condition()
        self._lines: dict[str, list[str]] = {"out": [], "err": []}
        self._readers = [
            threading.Thread(target=self._read, args=(stream, self._lines[name]), daemon=True)
            for name, stream in (("out", self._popen.stdout), ("err", self._popen.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines: list[str]) -> None:
        for line in stream:
            with self._written:
                lines.append(line)
                self._written.notify_all()
        stream.close()
        with self._written:
            self._written.notify_all()

    @property
    def out(self) -> str:
        return "".join(self._lines["out"])

    @property
    def err(self) -> str:
        return "".join(self._lines["err"])

    def saw(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        """Wait until what it has written matches; fails if it ends, or time does, before that."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.out, re.M) or re.search(pattern, self.err, re.M)

        with self._written:
            self._written.wait_for(
                lambda: found() or not any(reader.is_alive() for reader in self._readers), seconds
            )
        match = found()
        assert match, f"never said {pattern!r}:\n{self.out}{self.err}"
        return match

    def ended(self, seconds: float = SECONDS) -> int:
        """Its exit status as a shell tells it: 128 and the signal, if one killed it."""
        try:
            status = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.out}{self.err}") from None
        for reader in self._readers:
            reader.join(1.0)  # What it has started may have its pipes, and live.
        return status if status >= 0 else 128 - status

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self._popen.poll() is None:
            self.send(number)
        try:
            return self.ended()
        finally:
            if self._popen.poll() is None:
                self._popen.kill()
                self._popen.wait()


def first_to_end(*processes: Process, seconds: float = SECONDS) -> Process:
    """Wait until one of the processes has ended; the first of those that have."""
    poll = select.poll()
    opened = {os.pidfd_open(process.pid): process for process in processes}
    for fd in opened:
        poll.register(fd, select.POLLIN)
    ready = poll.poll(seconds * 1000)
    for fd in opened:
        os.close(fd)
    assert ready, "none of them ends"
    ended = {fd for fd, _ in ready}
    return next(process for fd, process in opened.items() if fd in ended)


def processes_with(variable: str, value: str) -> dict[int, str]:
    """The live processes that have this in their environment: id to command line."""
    wanted = f"{variable}={value}".encode()
    found = {}
    for name in os.listdir("/proc"):
        try:
            if name.isdecimal() and wanted in Path(f"/proc/{name}/environ").read_bytes():
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                found[int(name)] = command.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            pass
    return found


@dataclass(frozen=True)
class Finished:
    """A command that has ended; ``status`` as a shell tells it."""

    status: int
    out: str
    err: str


class Site:
    """A directory with processes of its own. ``env`` is what they get on top of this process's."""

    def __init__(self, directory: Path, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.temporary = directory / "temporary"
        self.temporary.mkdir()
        #: What all of its processes have in their environment.
        self.mark = {_MARK: uuid.uuid4().hex}
        self._started: list[Process] = []
        self.env = {name: value for name, value in os.environ.items() if "PYTXMR" not in name}
        self.env |= {
            "PYTHONPATH": os.fspath(IMPORTED_FROM),
            "TMPDIR": os.fspath(self.temporary),
        }
        self.env |= self.mark | (env or {})

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def start(self, *command: object) -> Process:
        process = Process(command, self.directory, self.env)
        self._started.append(process)
        return process

    def pytxmr(self, *words: object, seconds: float = SECONDS) -> Finished:
        """Run a command to its end."""
        process = self.start(*PYTXMR, *words)
        status = process.ended(seconds)
        return Finished(status, process.out, process.err)

    def run(self, job: Path, *words: object, output: str = "out") -> Finished:
        """`pytxmr run`, here, on two workers unless ``words`` say otherwise."""
        return self.pytxmr("run", job, *words, "--output", output, "--workers", 2)

    def twistd(self, daemon: str, *words: object, launcher: Iterable[object] = TWISTD) -> Process:
        pid_file = self.directory / f"{len(self._started)}.pid"
        return self.start(*launcher, "-n", "--pidfile", pid_file, daemon, *words)

    def parts(self, output: str = "out") -> list[bytes]:
        """The parts of a finished output, in order."""
        directory = self.directory / output
        names = sorted(path.name for path in directory.iterdir())
        assert names[0] == "_SUCCESS"
        assert names[1:] == [f"part-{n:05}" for n in range(len(names) - 1)]
        return [(directory / name).read_bytes() for name in names[1:]]

    def listing(self) -> set[str]:
        """What lies in the directory, down to the last file; the temporary one is left out."""
        paths = (p for p in self.directory.rglob("*") if self.temporary not in (p, *p.parents))
        return {os.fspath(path.relative_to(self.directory)) for path in paths}

    def processes(self) -> dict[int, str]:
        """The live processes with this site's mark: id to command line."""
        return processes_with(_MARK, self.mark[_MARK])

    def assert_clean(self) -> None:
        """No process and no temporary file is left."""
        assert self.processes() == {}
        assert [os.fspath(path) for path in self.temporary.rglob("*")] == []

    def close(self) -> None:
        """End what still runs, by its id, last started first."""
        for process in reversed(self._started):
            process.stop()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


class Gate:
    """A place in a job's code at which a process says that it is there, and waits to be let on.

    ``SOURCE`` is put at the head of a job module; `directory` is where the two FIFOs are.
    """

    SOURCE = """\
import os

def gate(directory):
    with open(f"{directory}/reached", "w") as reached:
        reached.write(f"{os.getpid()}\\n")
    opened = os.open(f"{directory}/opened", os.O_RDONLY)
    os.read(opened, 1)
    os.close(opened)

"""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        for name in ("reached", "opened"):
            os.mkfifo(directory / name)
        # Each open at both ends: so opening never waits, and a process that goes is no end of file.
        self._reached = os.open(directory / "reached", os.O_RDWR)
        self._opened = os.open(directory / "opened", os.O_RDWR)

    def reached(self, seconds: float = SECONDS) -> int:
        """Wait until one more process is there; returns its id."""
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._reached], [], [], seconds)
            assert ready, "nobody comes to the gate"
            line += os.read(self._reached, 1)
        return int(line)

    def open(self) -> None:
        """Let one process on."""
        os.write(self._opened, b".")

    def close(self) -> None:
        os.close(self._reached)
        os.close(self._opened)


class Death:
    """Waits for the end of a process that is not our child, given its id while it lives."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd = os.pidfd_open(pid)

    def wait(self, seconds: float = SECONDS) -> None:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        os.close(self._fd)
        assert ready, f"process {self._pid} lives on"


class Cluster:
    """A jobtracker and tasktrackers at a site.

    With ``early`` trackers started before the jobtracker, which listens on a port kept for it.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.secret = site.directory / "secret"
        make_secret(os.fspath(self.secret))
        # A bound port that does not listen: nobody else gets it, the jobtracker can have it.
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.endpoint = f"tcp:127.0.0.1:{self._kept.getsockname()[1]}"
        self.trackers: dict[str, Process] = {}
        self.client_env = {
            "PYTXMR_JOBTRACKER": self.endpoint,
            "PYTXMR_SECRET_FILE": os.fspath(self.secret),
        }
        site.env |= self.client_env

    def start_jobtracker(self, launcher: Iterable[object] = TWISTD) -> Process:
        listen = f"{self.endpoint}:interface=127.0.0.1".replace("127.0.0.1:", "", 1)
        state = self.site.directory / "jobtracker-state"
        self.jobtracker = self.site.twistd(
            "jobtracker", "--listen", listen, "--state-dir", state, launcher=launcher
        )
        assert self.jobtracker.saw(r"jobtracker is ready at (\S+)$")[1] == self.endpoint
        return self.jobtracker

    def start_tracker(self, name: str, workers: int = 1) -> Process:
        """It has no jobtracker yet, maybe; see `joined`."""
        tracker = self.site.twistd(
            "tasktracker", "--kv-listen", "tcp:0:interface=127.0.0.1", "--name", name,
            "--work-dir", self.work_dir(name), "--workers", workers,
        )  # fmt: skip
        self.trackers[name] = tracker
        return tracker

    def joined(self, *names: str) -> None:
        for name in names:
            self.trackers[name].saw(rf"registered as {name}\.\d+$")

    def work_dir(self, name: str) -> Path:
        return self.site.directory / name

    def store_port(self, name: str) -> int:
        at = self.trackers[name].saw(r"tasktracker is ready at tcp:127\.0\.0\.1:(\d+)$")
        return int(at[1])

    def jobs_on_disk(self) -> list[str]:
        """What any tracker holds of any job, but for logs."""
        return [str(p) for name in self.trackers for p in self.work_dir(name).glob("jobs/*")]

    def close(self) -> None:
        """SIGTERM for all: each ends cleanly, which of twistd is to end by the signal at last."""
        self._kept.close()
        for daemon in (*self.trackers.values(), self.jobtracker):
            assert daemon.stop() == 128 + signal.SIGTERM, daemon.out
            assert "Server Shut Down." in daemon.out


def word_counts(parts: Iterable[bytes]) -> Counter[str]:
    """The pairs of a word count's parts. Within a part words are in order; none comes twice."""
    found: Counter[str] = Counter()
    for part in parts:
        pairs = [line.split("\t") for line in part.decode().splitlines()]
        words = [word for word, _ in pairs]
        assert words == sorted(set(words))
        assert not found.keys() & set(words)
        found.update({word: int(count) for word, count in pairs})
    return found
