"""What the pages of docs/ on jobs tell people to type works when it is typed."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import pytxmr
from pytxmr.model import FileRange
from pytxmr.records.readers import open_range

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    name: (ROOT / "docs" / name).read_text("utf-8")
    for name in (
        "jobs.md",
        "forms.md",
        "inputs.md",
        "outputs.md",
        "pipelines.md",
    )
}
BOOK = ROOT / "examples" / "data" / "warandpeace.txt"
#: A tenth of it, which has as much to show in less time.
TEXT = "".join(BOOK.read_text("ascii").splitlines(keepends=True)[:6700])
# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
UNDER_MAKE_TEST = "PYTXMR_TEST_INSTALLED" in os.environ
RUN_SECONDS = 100

JOBS = {
    page: {
        re.match(r"# (\w+\.py)\n", block)[1]: block
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    }
    for page, text in PAGES.items()
}
COMMANDS = [
    (page, command)
    for page, text in PAGES.items()
    for command in re.findall(
        r"^    ((?:.* \| )?(?:pytxmr run|python \w+\.py) .*)$", text, re.MULTILINE
    )
    if "s3://" not in command  # tests/storage/test_s3.py runs these
]


def needs(command: str) -> list[str]:
    """The libraries of an extra that a command wants."""
    if "wordcount_batch" in command:
        return ["numpy", "pyarrow"]
    if "://" in command:
        return ["fsspec"]
    return ["zstandard"] if "--codec zstd" in command else []


def job_of(command: str) -> str:
    """The job's file in a command."""
    return re.search(r"(?:pytxmr run|python) ([^\s:]+)", command)[1]


def output_of(command: str, source: str) -> str:
    """The output that is typed, or that the job's class declares."""
    words = shlex.split(command)
    if "--output" in words:
        return words[words.index("--output") + 1]
    return re.search(r'^    output = "(.*)"$', source, re.MULTILINE)[1]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory with what the pages read, and with the examples where they have them.

    The book is `TEXT`.
    """
    data = tmp_path / "examples" / "data"
    data.mkdir(parents=True)
    for made in (data.parent, data):
        for path in (ROOT / made.relative_to(tmp_path)).iterdir():
            if path.is_file() and path != BOOK:
                (made / path.name).symlink_to(path)
    book = data / BOOK.name
    book.write_text(TEXT, "ascii")
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "war.txt").symlink_to(book)
    (tmp_path / "books.txt").write_text("# one for now\nbooks/*\n")
    (tmp_path / "book.txt.gz").write_bytes(gzip.compress(TEXT.encode(), 1))
    (tmp_path / "bin").mkdir()
    for name, words in {"pytxmr": "-m pytxmr", "python": ""}.items():
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        path.chmod(0o755)
    return tmp_path


def content(part: Path) -> str:
    """The text of a part, which may be compressed."""
    with open_range(FileRange(os.fspath(part), 0, part.stat().st_size)) as file:
        return b"".join(iter(lambda: file.read(1 << 20), b"")).decode()


def typed(command: str, desk: Path) -> bytes:
    """What the command prints."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=desk,
        env=os.environ
        | {
            "PATH": f"{desk / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.fspath(IMPORTED_FROM),
        },
        capture_output=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_a_page_runs_and_counts_words_where_it_says_so(
    desk: Path, page: str, command: str
):
    # `make test` installs the extras, so that there nothing is passed over.
    if not UNDER_MAKE_TEST and not all(map(importlib.util.find_spec, needs(command))):
        pytest.skip(f"{', '.join(needs(command))} is not installed")
    for name, source in (JOBS["jobs.md"] | JOBS[page]).items():  # pages build on the first
        (desk / name).write_text(source, "utf-8")
    printed = typed(command, desk)
    if "--help" in command:
        assert b"usage: " in printed
        return
    output = desk / output_of(command, JOBS[page].get(job_of(command), ""))
    lines = [line for part in output.glob("part-*") for line in content(part).split("\n")]
    found = dict(line.split("\t", 1) for line in lines if line and "\t" in line)
    if output.name.startswith("counts"):
        counted = Counter(TEXT.lower().split())
        assert {word: int(count) for word, count in found.items()} == counted
    else:
        assert any(lines)


@pytest.mark.parametrize(
    ("page", "script"),
    [
        (page, script)
        for page, text in PAGES.items()
        for script in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ],
)
def test_commands_that_a_page_has_in_a_row_run_in_a_row(desk: Path, page: str, script: str):
    for name, source in JOBS[page].items():
        (desk / name).write_text(source, "utf-8")
    typed(f"set -e\n{script}", desk)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_every_job_that_it_shows(page: str):
    assert {job_of(command) for of, command in COMMANDS if of == page} >= {*JOBS[page]}


def test_the_plan_that_a_page_shows_is_that_of_its_job(desk: Path):
    page = PAGES["pipelines.md"]
    command, shown = re.search(
        r"^    (pytxmr plan .*)\n\n```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    ).groups()
    for name, source in JOBS["pipelines.md"].items():
        (desk / name).write_text(source, "utf-8")
    shutil.copyfile(BOOK, desk / BOOK.relative_to(ROOT))  # whose size is shown
    assert typed(command, desk).decode() == shown


def test_the_examples_with_libraries_are_run():
    run = {job_of(command) for _, command in COMMANDS}
    assert run.issuperset({f"examples/{name}.py" for name in ("wordcount_batch", "sort_batch")})


def test_what_the_page_on_shipping_shows_works_in_its_order(desk: Path):
    page = (ROOT / "docs" / "shipping.md").read_text("utf-8")
    for block in re.findall(r"^```(?:python|text)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        head, _, text = block.partition("\n")
        path = desk / head.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block if path.suffix == ".py" else text, "utf-8")
    commands = re.findall(r"^    (?=pytxmr |python )(.*)$", page, re.MULTILINE)
    for command in commands:
        typed(command, desk)
    found = {
        name: dict(
            line.split("\t", 1)
            for part in (desk / name).glob("part-*")
            for line in part.read_text("utf-8").splitlines()
        )
        for name in re.findall(r"--output (\S+)", page)
    }
    counted = Counter(re.findall("[a-z]+", TEXT.lower()))
    stop = (desk / "lists" / "english.txt").read_text().split()
    assert found["words"] == {word: str(count) for word, count in counted.items()}
    assert found["people"] == {name: str(counted[name]) for name in ("andrew", "natasha", "pierre")}
    prince = counted["prince"]
    assert found["sizes"]["prince"] == f"[{prince}, {10 ** (len(str(prince)) - 1)}]"
    assert found["stopped"].keys() == counted.keys() - set(stop)
    assert int(found["languages"]["english"]) == sum(counted[word] for word in stop)
    lines = [line.split() for line in TEXT.splitlines() if line.strip()]
    for day, (words, longest) in (
        (day, json.loads(found["visits"][f"1805-07-{day + 1:02}"])) for day in (1, 5, 12)
    ):
        wanted = [line for line in lines if len(line) == day]
        assert words == day * len(wanted)
        assert len(longest) == max(len(word) for line in wanted for word in line)
    firsts = {line[0] for line in lines}
    assert int(found["patterns"]["q"]) == len({word for word in firsts if word[0] in "qQ"})
    assert {name for name in os.listdir(desk / "jobs") if name.endswith(".py")} == {
        os.path.basename(words[2]) for words in map(shlex.split, commands) if words[0] == "pytxmr"
    }
