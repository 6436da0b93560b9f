"""What a dead worker left behind is found, also while it is about to begin another program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytxmr.net import strays
from pytxmr.net.spawn import COOKIE

OURS = f"HOME=/\0{COOKIE}=ours\0".encode()


class Processes:
    """What /proc shows of some, and which of them are killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.killed: list[int] = []
        self.looks = 0

    def show(self, pid: int, environment: bytes, begins_at: int, program: bool = True) -> None:
        place = self.directory / str(pid)
        place.mkdir(exist_ok=True)
        (place / "environ").write_bytes(environment)
        (place / "stat").write_text(f"{pid} (a (b) c) S" + " 7" * 46 + f" {begins_at} 9 0\n")
        if program and not (place / "exe").is_symlink():
            (place / "exe").symlink_to("/bin/sleep")

    def kill(self, pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        self.killed.append(pid)


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    shown = Processes(tmp_path)
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(strays, "_PROC", str(tmp_path))
    monkeypatch.setattr(os, "kill", shown.kill)
    return shown


def then(monkeypatch: pytest.MonkeyPatch, *changes) -> None:
    """What happens between one look and the next."""
    left = list(changes)
    monkeypatch.setattr(os, "sched_yield", lambda: left.pop(0)())


def test_who_has_the_cookie_is_killed_once_and_nobody_else(processes, monkeypatch):
    processes.show(11, OURS, 5)
    processes.show(12, OURS.replace(b"ours", b"another"), 5)
    processes.show(13, b"", 0, program=False)  # a thread of the kernel, or one that has ended
    processes.show(14, b"", 5)  # begun without any environment
    then(monkeypatch, lambda: None)
    strays.kill_strays("ours")
    assert processes.killed == [11]


def test_who_is_about_to_begin_a_program_is_looked_at_again(processes, monkeypatch):
    processes.show(11, b"", 0)
    then(
        monkeypatch,
        lambda: None,
        lambda: processes.show(11, OURS, 5),
        lambda: None,
    )
    strays.kill_strays("ours")
    assert processes.killed == [11]


def test_what_a_stray_started_before_it_was_killed_is_found(processes, monkeypatch):
    processes.show(11, OURS, 5)
    then(monkeypatch, lambda: processes.show(12, OURS, 5), lambda: None)
    strays.kill_strays("ours")
    assert processes.killed == [11, 12]


def test_who_does_not_get_on_is_not_waited_for_for_ever(processes, monkeypatch):
    processes.show(11, b"", 0)
    clock = iter(range(100))
    monkeypatch.setattr(strays.time, "monotonic", lambda: next(clock) / 10)
    monkeypatch.setattr(os, "sched_yield", lambda: None)
    strays.kill_strays("ours")
    assert next(clock) <= 5


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_of_what_has_begun_proc_tells_where_its_environment_is():
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={},
    ) as process:
        process.stdout.readline()
        assert Path(f"/proc/{process.pid}/environ").read_bytes() == b""
        assert not strays._is_beginning(str(process.pid))
        process.communicate(b"\n")
