"""What docs/testing.md tells people to type works when it is typed, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pytxmr

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
RUN_SECONDS = 100

FILES = {
    re.match(r"# (\w+\.py)\n", block)[1]: block
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}
COMMANDS = re.findall(r"^    ((?:pytxmr|python) .*)$", PAGE, re.MULTILINE)
SAID = {
    "pytxmr new counting": "cd counting",
    "python -m pytest -q test_wordcount.py": "5 passed",
    "python -m pytest -q test_calls.py": "1 passed",
    "python counts.py": r"ended \d+ of \d+ maps\nthe \d+ .*/frequent\nnothing has run: ",
    "python -m pytest -q test_nightly.py": "1 passed",
    "python on_twisted.py": r"ended\n67127 lines",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the page's files, and with the examples where the page has them."""
    directory = tmp_path_factory.mktemp("desk")
    (directory / "examples").symlink_to(ROOT / "examples")
    for name, source in FILES.items():
        (directory / name).write_text(source, "utf-8")
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_does_what_the_page_says(desk: Path, command: str) -> None:
    program, *words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, *(["-m", "pytxmr"] if program == "pytxmr" else []), *words],
        cwd=desk,
        env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(SAID.get(command, "Job001 succeeded"), done.stdout, re.DOTALL), done.stdout


def test_the_page_runs_every_file_that_it_shows() -> None:
    typed = " ".join(COMMANDS)
    # This one needs a cluster: see tests/end_to_end/test_twisted_client.py.
    assert [name for name in FILES if name not in typed] == ["on_a_cluster.py"]
