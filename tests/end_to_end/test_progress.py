"""What is shown while a job runs, and at its end."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest
from processes import PYTXMR, SECONDS, Gate, Site

JOB = """
import pytxmr

def mapper(key, value):
    gate({gate!r})
    for word in value.split():
        pytxmr.counter("long words", len(word) > 3)
        yield word, 1

def reducer(key, values):
    yield key, sum(values)
"""
TEXT = "one two three\nfour five six\n"


@pytest.fixture
def job(site: Site, gate: Gate) -> Path:
    site.write("in.txt", TEXT)
    return site.write("job.py", Gate.SOURCE + JOB.format(gate=str(gate.directory)))


def shown_until(terminal: int, text: str) -> str:
    """Read a terminal until it shows ``text``, or, if that is empty, to its end."""
    shown = b""
    while not (text and text in shown.decode(errors="replace")):
        ready, _, _ = select.select([terminal], [], [], SECONDS)
        assert ready, f"never shown: {text!r}, but {shown!r}"
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Nobody has the other end any more.
            break
        if not data:
            break
        shown += data
    return shown.decode()


def test_terminal_has_a_bar_that_is_wiped_away_at_the_end(
    site: Site, gate: Gate, job: Path
) -> None:
    terminal, theirs = pty.openpty()
    command = [*PYTXMR, "run", job, "in.txt", "--output", "out", "--workers", "1"]
    running = subprocess.Popen(
        command, cwd=site.directory, env=site.env, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    try:
        os.close(theirs)
        begun = shown_until(terminal, "mapping: map 0/1, reduce 0/1")
        for _ in TEXT.splitlines():
            gate.reached()
            gate.open()
        rest = shown_until(terminal, "")
        out, _ = running.communicate(timeout=SECONDS)
    finally:
        os.close(terminal)
        running.kill()
        running.wait()
    assert running.returncode == 0
    assert out.startswith("Job001 succeeded in")
    draws = (begun + rest).split("\r\x1b[K")
    assert re.fullmatch(r"░+ Job001 mapping: map 0/1, reduce 0/1 \d+ s", draws[1])
    assert draws[-1] == ""
    assert "\n" not in begun + rest


def test_elsewhere_there_is_a_line_for_each_phase(site: Site, gate: Gate, job: Path) -> None:
    words = ["run", job, "in.txt", "--output", "out", "--workers", 1]
    running = site.start(*PYTXMR, *words)
    running.saw("^Job001 mapping: map 0/1, reduce 0/1$")
    for _ in TEXT.splitlines():
        gate.reached()
        gate.open()
    assert running.ended() == 0
    phases = re.findall(r"^Job001 (\w+): map \d/1, reduce \d/1$", running.err, re.M)
    assert len(phases) == len(set(phases)) == len(running.err.splitlines())
    assert "\x1b" not in running.out + running.err


def test_summary_has_records_bytes_times_and_counters(site: Site, gate: Gate, job: Path) -> None:
    words = ["run", job, "in.txt", "--output", "out", "--workers", 1]
    running = site.start(*PYTXMR, *words)
    for _ in TEXT.splitlines():
        gate.reached()
        gate.open()
    assert running.ended() == 0
    output = sum(map(len, site.parts()))
    seconds = r"\d+\.\d\d s"
    expected = [
        rf"Job001 succeeded in {seconds}: 1 maps, 1 reduces",
        rf"  input +2 records +{len(TEXT)} bytes",
        r"  mapped +6 records",
        r"  spilled +6 records +\d+ bytes",
        rf"  output +6 records +{output} bytes",
        rf"  time +mapping {seconds}, reducing {seconds}, committing {seconds}",
        r"  counter +long words: 3",
        rf"  result +{site.directory}/out",
    ]
    lines = running.out.splitlines()
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)
