"""The pages that one learns from: what they tell to type, in their order, gives what they show.

A fence with a name (``# traffic/traffic.py``, or behind the language) is a file: written if it is
Python, else compared with what is there. One without is what the command before it has printed:
some of its lines, in their order. ``...`` stands for more.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from processes import TWISTD, Process

import pytxmr

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("tutorial.md", "coming-from.md", "cookbook.md")
# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
RUN_SECONDS = 100
STEP = re.compile(
    r"^```(?P<language>\w+)(?: (?P<name>\S+))?\n(?P<block>.*?)^```$|^    (?P<command>\S[^\n]*)$",
    re.MULTILINE | re.DOTALL,
)
OTHERS = re.compile(r"^(?:from|import) (?:mrjob|disco|pyspark|sys)\b", re.MULTILINE)


class Desk:
    """A directory with the examples, and the daemons that were started in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemons: list[Process] = []
        (directory / "examples").symlink_to(ROOT / "examples")
        (directory / "bin").mkdir()
        for name, words in {"pytxmr": "-m pytxmr", "python": ""}.items():
            path = directory / "bin" / name
            path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            path.chmod(0o755)
        self.env = {name: value for name, value in os.environ.items() if "PYTXMR" not in name} | {
            "PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.fspath(IMPORTED_FROM),
            "PWD": os.fspath(directory),
        }
        # A bound port that does not listen: nobody else gets it, the jobtracker can have it.
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.port = str(self._kept.getsockname()[1])

    def type(self, command: str, shown: str) -> str:
        """What the command prints. It fails, or is left, if it is shown to."""
        command = command.replace("9000", self.port)
        if command.startswith("export "):
            words = command.replace("$PWD", self.env["PWD"]).split()[1:]
            self.env |= dict(word.split("=", 1) for word in words)
            return ""
        if command.startswith("kill "):
            self.end_daemons()
            return ""
        if command.startswith("twistd "):
            words = re.sub(r"tcp:899\d", "tcp:0", command).removesuffix(" &").split()[1:]
            self.daemons.append(Process([*TWISTD, *words], self.directory, self.env))
            self.daemons[-1].saw("is ready at")
            return ""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.directory,
            env=self.env,
            input="".join(f"{typed}\n" for typed in re.findall(r"^\(Pdb\) (.*)", shown, re.M)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
        )
        expected = 130 if "(Pdb)" in shown else 1 if "Traceback" in shown else 0
        assert done.returncode == expected, f"{command}\n{done.stdout}"
        return done.stdout

    def put(self, name: str, source: str, *, at_its_end: bool) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        with open(path, "a" if at_its_end else "w", encoding="utf-8") as file:
            file.write(source)

    def end_daemons(self) -> None:
        for daemon in reversed(self.daemons):
            assert daemon.stop() == 128 + signal.SIGTERM, daemon.out
        self.daemons.clear()

    def close(self) -> None:
        self._kept.close()
        self.end_daemons()


@pytest.fixture
def desk(tmp_path: Path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def assert_shown(found: str, shown: str) -> None:
    lines = (" ".join(line.split()) for line in found.split("\n"))  # without the columns
    for line in shown.replace("(Pdb) p value\n", "").splitlines():
        wanted = " ".join(line.removeprefix("(Pdb) ").split())
        if wanted not in ("...", "q"):
            assert any(wanted in printed for printed in lines), f"{wanted}\nis not in\n{found}"


@pytest.mark.daemons
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_tells_to_type_gives_what_it_shows(desk: Desk, page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    steps = list(STEP.finditer(text))
    printed = ""
    for number, step in enumerate(steps):
        if step["command"]:
            follows = [*steps, None][number + 1]
            prints = follows and follows["language"] == "text" and not follows["name"]
            printed = desk.type(step["command"], follows["block"] if prints else "")
        elif step["language"] == "python":
            head = re.match(r"# ([\w/]+\.py)(, at its end)?\n", step["block"])
            assert head or OTHERS.search(step["block"]), step["block"]
            compile(step["block"], page, "exec")  # the others' are run by test_coming_from.py
            if head:
                desk.put(head[1], step["block"], at_its_end=bool(head[2]))
        elif step["name"]:
            found = (desk.directory / step["name"]).read_text("utf-8")
            shown, more, _ = step["block"].partition("...\n")
            assert (found[: len(shown)] if more else found) == shown
        elif step["language"] == "text":
            assert_shown(printed, step["block"])


def test_the_cookbook_runs_every_example_that_is_no_classic() -> None:
    text = (ROOT / "docs" / "cookbook.md").read_text("utf-8")
    commands = [step["command"] for step in STEP.finditer(text) if step["command"]]
    run = {Path(word).stem for line in commands for word in line.split() if ".py" in word}
    assert run >= {
        "kmeans", "log_join", "near_duplicates", "ngrams", "pagerank", "sessions", "tf_idf",
    }  # fmt: skip
