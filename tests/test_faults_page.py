"""docs/faults.md names, for every fault, tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "faults.md").read_text("utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| (.*) \|$", PAGE, re.MULTILINE)
#: Links to other pages are not of tests.
NAMED = re.findall(r"\[([^]]+)\]\((?!\w+\.md\b)([^)]+)\)", PAGE)


@cache
def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_the_page_has_every_fault_once_and_says_of_each_what_tests_it():
    assert [int(number) for number, *_ in ROWS] == list(range(1, 37))
    for number, *_, tests in ROWS:
        assert "](" in tests or tests.startswith("not yet"), f"row {number}"


@pytest.mark.parametrize(("name", "link"), sorted(set(NAMED)))
def test_a_test_that_the_page_names_exists_where_it_links(name: str, link: str):
    file, _, test = name.partition("::")
    assert link == f"../tests/{file}"
    assert test.startswith("test_")
    assert test in names_in(ROOT / "tests" / file)
