"""Fail points: what the variable says, what passing one does, and that all are in the product."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pytxmr
from pytxmr.failpoints import POINTS, VARIABLE, FailPoints, fail_point, parse

PACKAGE = Path(pytxmr.__file__).resolve().parent


def test_several_points_are_parted_by_commas():
    planned = parse("map-started:2:kill,commit-renamed:1:announce")
    assert planned == {("map-started", 2): "kill", ("commit-renamed", 1): "announce"}
    assert parse("") == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("map-started", "'map-started' is not NAME:N:ACTION"),
        ("map-started:1:kill:x", "is not NAME:N:ACTION"),
        ("map-begun:1:kill", "there is no fail point 'map-begun'; there are map-started, "),
        ("map-started:0:kill", "'0' in 'map-started:0:kill' is no number of a passing"),
        ("map-started:once:kill", "is no number of a passing"),
        ("map-started:\u0661:kill", "is no number of a passing"),
        ("map-started:1:die", "there is no action 'die'; there are announce, kill, "),
    ],
)
def test_what_is_wrong_is_said(wrong, said):
    with pytest.raises(ValueError) as caught:
        parse(f"reduce-started:1:stop,{wrong}")
    assert said in str(caught.value)


def test_a_place_acts_at_the_passing_that_was_named_and_says_so_first():
    ours, theirs = os.pipe()
    points = FailPoints(parse("map-started:2:error"), theirs)
    points.passed("map-started")
    points.passed("map-spilled")
    with pytest.raises(OSError) as caught:
        points.passed("map-started")
    points.passed("map-started")
    os.close(theirs)
    with open(ours) as said:
        assert said.read() == "failpoint map-started 2\n"
    assert caught.value.errno == errno.ENOSPC


def ran(value: str | None, then: str = "") -> subprocess.CompletedProcess[str]:
    """Python, with the variable set so as it imports the module."""
    code = f"from pytxmr.failpoints import fail_point\n{then}"
    env = os.environ | {"PYTHONPATH": os.fspath(PACKAGE.parent)}
    env |= {} if value is None else {VARIABLE: value}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ("announce", 0, "went on\n"),
        ("kill", -signal.SIGKILL, ""),
        ("exit", 1, ""),
    ],
)
def test_the_variable_has_a_process_end_or_go_on(action, status, said):
    done = ran(f"job-destroying:1:{action}", "fail_point('job-destroying'); print('went on')")
    assert (done.returncode, done.stdout) == (status, said)
    assert done.stderr == "failpoint job-destroying 1\n"


def test_a_process_that_stops_goes_on_when_it_is_continued():
    code = "from pytxmr.failpoints import fail_point; fail_point('map-started'); print('went on')"
    env = os.environ | {VARIABLE: "map-started:1:stop", "PYTHONPATH": os.fspath(PACKAGE.parent)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WSTOPSIG(status) == signal.SIGSTOP
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == b"went on\n"


def test_a_wrong_value_ends_the_process_as_it_starts_with_one_line():
    done = ran("map-started:1:die", "print('went on')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("PYTXMR_FAILPOINT: there is no action 'die'; ")
    assert done.stderr.count("\n") == 1


def test_where_nothing_is_planned_a_place_is_a_function_that_does_nothing():
    assert fail_point("no such place") is None
    done = ran(None, "print(fail_point.__code__.co_names)")
    assert done.stdout == "()\n"


def test_each_place_is_in_the_product_and_the_product_has_no_other():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "fail_point":
                found.add(ast.literal_eval(node.args[0]))
    assert found == set(POINTS)
