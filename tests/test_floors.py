"""Each floor of the package imports only from the floors below it.

What a floor may import is written here once, and holds for modules that are yet to come: a module
or package that no rule names may import whatever it likes but the reactor.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pytxmr

PACKAGE = Path(pytxmr.__file__).resolve().parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

REACTOR = "twisted.internet.reactor"

PURE = ("records", "plan", "storage", "job")
#: What the modules of a part may import of pytxmr, beside the part itself.
MAY_IMPORT = {
    "errors": set(),
    "failpoints": set(),
    "model": {"errors"},
    "bigint": set(),
    "records": {"errors", "model", "bigint"},
    "backoff": set(),
    "plan": {"errors", "model", "backoff", "bigint"},
    "storage": {"errors", "failpoints", "model", "records"},
    "readers": {"records"},
    "writers": {"records"},
    "job": {"errors", "model", "records", "readers", "writers"},
    "interfaces": {"errors", "model"},
    "net": {"errors", "failpoints", "model", "bigint", "interfaces", *PURE},
    "store": {"errors", "model", "interfaces", *PURE, "net"},
}
#: Parts that also run in worker processes, or without a reactor; "" is the package itself.
WITHOUT_TWISTED = (
    "",
    "errors",
    "failpoints",
    "model",
    "backoff",
    "bigint",
    "records",
    "plan",
    "storage",
    "readers",
    "writers",
    "job",
    "worker",
    "reuse",
    "specs",
    "steps",
)
#: Parts that meet in `interfaces` alone: those of the jobtracker, and those of a tasktracker.
APART = (
    {"jobtracker", "jobbook", "followers", "joblife", "loggedplan", "roster", "avatars", "state"},
    {"tasktracker", "jobwork", "segments", "attemptlogs"},
)
#: Faces: what people and twistd call. Nothing below imports them.
FACES = ("runners", "cli", "web", "tap", "testing")


def part_of(module: str) -> str:
    """``records`` for ``pytxmr.records.codec``; "" for ``pytxmr`` itself."""
    return module.partition(".")[2].partition(".")[0]


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """The full names of all that a module imports, wherever in it, with the line."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                # It may be a module in a package, or a name in a module.
                name = f"{base}.{alias.name}"
                yield (name if name in MODULES or name == REACTOR else base), node.lineno


@cache
def imports_of(module: str) -> list[tuple[str, int]]:
    path = MODULES[module]
    tree = ast.parse(path.read_bytes(), path)
    return list(imports(tree, module, path.name == "__init__.py"))


@cache
def at_run_time(module: str) -> list[tuple[str, int]]:
    """What a module imports, wherever in it, but for what only its types need."""

    class Without(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if is_for_types else self.generic_visit(node)

    path = MODULES[module]
    tree = Without().visit(ast.parse(path.read_bytes(), path))
    return list(imports(tree, module, path.name == "__init__.py"))


def at_module_level(tree: ast.Module) -> ast.Module:
    """The tree without what runs only when a function is called."""

    class Without(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.AST) -> None:
            return None

        visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    return Without().visit(tree)


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) in MAY_IMPORT])
def test_a_module_imports_only_from_the_floors_below(module):
    part = part_of(module)
    allowed = [f"pytxmr.{name}" for name in (*MAY_IMPORT[part], part)]
    wrong = [
        f"line {line}: {name}"
        for name, line in imports_of(module)
        if is_in(name, "pytxmr") and not any(is_in(name, package) for package in allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) in WITHOUT_TWISTED])
def test_what_runs_without_a_reactor_does_not_import_twisted(module):
    assert [found for found in imports_of(module) if is_in(found[0], "twisted")] == []


@pytest.mark.parametrize(("mine", "other"), [APART, APART[::-1]], ids=["one", "other"])
def test_the_jobtracker_and_the_tasktracker_do_not_import_each_other(mine, other):
    for module in MODULES:
        if part_of(module) in mine:
            found = [one for one in imports_of(module) if part_of(one[0]) in other]
            assert found == [], module


@pytest.mark.parametrize("module", MODULES)
def test_only_faces_import_faces(module):
    # `pytxmr.run` is a door to a face, which it imports when it is called.
    if part_of(module) not in (*FACES, "__main__", ""):
        named = [one for one in imports_of(module) if is_in(one[0], "pytxmr")]
        assert [one for one in named if part_of(one[0]) in FACES] == []


def test_modules_stand_in_the_list_of_them_below_those_that_they_import():
    page = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
    first, _, _ = page.read_text("utf-8").partition("A module imports only from those above it")
    listed = re.findall(r"^      ((?:[a-z]+(?:\.py|/) +)+)", first, re.MULTILINE)
    parts = re.findall("[a-z]+", " ".join(listed).replace(".py", ""))
    assert sorted(parts) == sorted(
        {part_of(module) for module in MODULES} - {"", "__main__", "examples"}
    )
    for module in MODULES:
        if (part := part_of(module)) in parts and module != "pytxmr.runners.blocking":
            needed = {part_of(name) for name, _ in at_run_time(module) if is_in(name, "pytxmr")}
            above = parts[: parts.index(part) + 1]
            assert needed - {"", *above} == set(), module


def test_no_two_modules_need_each_other():
    # The package is imported before anything in it, and is a door to what it imports when called.
    needs = {
        module: {name for name, _ in at_run_time(module) if name in MODULES} - {module, "pytxmr"}
        for module in MODULES
        if module != "pytxmr"
    }
    # What needs none of the others, or is needed by none, is in no circle.
    while free := [
        module
        for module, needed in needs.items()
        if not needed & needs.keys() or not any(module in others for others in needs.values())
    ]:
        for module in free:
            del needs[module]
    assert sorted(needs) == []


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_the_reactor_when_it_is_imported(module):
    path = MODULES[module]
    tree = at_module_level(ast.parse(path.read_bytes(), path))
    found = list(imports(tree, module, path.name == "__init__.py"))
    assert [one for one in found if is_in(one[0], REACTOR)] == []


def test_importing_what_a_worker_needs_loads_no_twisted_and_no_face():
    code = f"""
import sys
import pytxmr, pytxmr.readers, pytxmr.writers
import pytxmr.model, pytxmr.job.loading, pytxmr.records.attempt
faces = {FACES!r}
print([name for name in sys.modules if name.partition(".")[0] == "twisted"])
print([name for name in faces if f"pytxmr.{{name}}" in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.fspath(PACKAGE.parent)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"[]\n[]\n"


@pytest.mark.parametrize("name", ["pipeline", "readers", "Step", "testing", "writers"])
def test_what_is_imported_later_is_there_when_it_is_asked_for(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import pytxmr; print(pytxmr.{name}.__name__, dir(pytxmr))"],
        env=os.environ | {"PYTHONPATH": os.fspath(PACKAGE.parent)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert repr(name).encode() in done.stdout


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import twisted.internet.reactor", "twisted.internet.reactor"),
        ("from twisted.internet import reactor", "twisted.internet.reactor"),
        ("if 1:\n from twisted.internet import defer, reactor as r", "twisted.internet.reactor"),
        ("class A:\n from twisted.internet.reactor import callLater", "twisted.internet.reactor"),
        ("from . import codec", "pytxmr.records.codec"),
        ("from .codec import NAN", "pytxmr.records.codec"),
        ("from ..model import JobSpec", "pytxmr.model"),
        ("from .. import errors", "pytxmr.errors"),
        ("from pytxmr.records import codec", "pytxmr.records.codec"),
        ("def f():\n import twisted", "twisted"),
    ],
)
def test_imports_are_found_in_every_form(source, found):
    tree = ast.parse(source)
    assert found in [name for name, _ in imports(tree, "pytxmr.records.merge", is_package=False)]


def test_what_a_function_imports_is_not_at_module_level():
    source = "def f():\n from twisted.internet import reactor\nasync def g():\n import a\nimport b"
    tree = at_module_level(ast.parse(source))
    assert [name for name, _ in imports(tree, "pytxmr.x", is_package=False)] == ["b"]
