"""What docs/jobs.md tells people to type works when it is typed, in the order of the page."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import pytxmr

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "jobs.md").read_text("utf-8")
BOOK = ROOT / "examples" / "data" / "warandpeace.txt"
# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
UNDER_MAKE_TEST = "PYTXMR_TEST_INSTALLED" in os.environ
RUN_SECONDS = 100

JOBS = {
    re.match(r"# (\w+\.py)\n", block)[1]: block
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}
COMMANDS = re.findall(r"^    (pytxmr run .*)$", PAGE, re.MULTILINE)


def needs(command: str) -> list[str]:
    """The libraries of an extra that a command wants."""
    if "wordcount_batch" in command:
        return ["numpy", "pyarrow"]
    return ["zstandard"] if "--codec zstd" in command else []


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory with the page's jobs, and with the examples where the page has them."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name, source in JOBS.items():
        (tmp_path / name).write_text(source, "utf-8")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs_and_counts_words_where_it_says_so(desk: Path, command: str):
    # `make test` installs the extras, so that there nothing is passed over.
    if not UNDER_MAKE_TEST and not all(map(importlib.util.find_spec, needs(command))):
        pytest.skip(f"{', '.join(needs(command))} is not installed")
    words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=desk,
        env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
        capture_output=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    output = desk / words[words.index("--output") + 1]
    lines = [line for part in output.glob("part-*") for line in part.read_text("utf-8").split("\n")]
    found = dict(line.split("\t", 1) for line in lines if line and "\t" in line)
    if output.name.startswith("counts"):
        counted = Counter(BOOK.read_text("ascii").lower().split())
        assert {word: int(count) for word, count in found.items()} == counted
    else:
        assert any(lines)


def test_the_page_runs_every_job_that_it_shows():
    typed = {shlex.split(command)[2] for command in COMMANDS}
    assert typed.issuperset(JOBS)
    assert typed.issuperset({f"examples/{name}.py" for name in ("wordcount_batch", "sort_batch")})


def test_what_the_page_on_shipping_shows_works_in_its_order(tmp_path: Path):
    page = (ROOT / "docs" / "shipping.md").read_text("utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in re.findall(r"^```(?:python|text)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        head, _, text = block.partition("\n")
        path = tmp_path / head.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block if path.suffix == ".py" else text, "utf-8")
    commands = re.findall(r"^    (?=pytxmr |python )(.*)$", page, re.MULTILINE)
    for words in map(shlex.split, commands):
        done = subprocess.run(
            [sys.executable, *(["-m", *words] if words[0] == "pytxmr" else words[1:])],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
            capture_output=True,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    found = {
        name: dict(
            line.split("\t", 1)
            for part in (tmp_path / name).glob("part-*")
            for line in part.read_text("utf-8").splitlines()
        )
        for name in re.findall(r"--output (\S+)", page)
    }
    counted = Counter(re.findall("[a-z]+", BOOK.read_text("ascii").lower()))
    stop = (tmp_path / "lists" / "english.txt").read_text().split()
    assert found["words"] == {word: str(count) for word, count in counted.items()}
    assert found["sizes"]["prince"] == f"[{counted['prince']}, 1000]"
    assert found["stopped"].keys() == counted.keys() - set(stop)
    assert int(found["languages"]["english"]) == sum(counted[word] for word in stop)
    assert {name for name in os.listdir(tmp_path / "jobs") if name.endswith(".py")} == {
        os.path.basename(words[2]) for words in map(shlex.split, commands) if words[0] == "pytxmr"
    }
