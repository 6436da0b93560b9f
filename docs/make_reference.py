"""Writes docs/reference.md: all that is public, from its docstrings and signatures, and the options
of all commands. `make docs` runs it; a test tells when the page is older than what it is made of.

    python docs/make_reference.py [FILE]
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytxmr
from pytxmr import client, errors, folds, model, pipeline, readers, result, testing, writers
from pytxmr.cli import options
from pytxmr.job.steps import Step
from pytxmr.net import secret
from pytxmr.records.formats import Reader, Writer
from pytxmr.runners.local import LocalCluster
from pytxmr.runners.memory import InMemoryCluster
from pytxmr.tap import jobtracker, tasktracker

PAGE = Path(__file__).with_name("reference.md")
WIDTH = 110
#: So many options that another command has as well are explained again.
FEW = 5

HEAD = """\
# Reference

What a program may use, by where it is imported from, and the options of all commands. `make docs`
makes this page of the docstrings and the parsers. How things are used is told in the
[other pages](README.md).
"""

#: What of these classes is pytxmr's own affair.
NOT_PUBLIC = {
    "Groups": ("iterators", "part", "columns"),
    "RangePartitioner": ("bind", "cuts", "sample"),
    "Result": ("of",),
    "LocalCluster": ("start", "stop"),
    "JobSpec": ("to_plain", "from_plain", "without_cargo"),
    "Step": ("shuffles",),
}


# ---- Markdown


def heading(level: int, text: str) -> str:
    return f"{'#' * level} {text}\n"


def body(documented: Any) -> str:
    """The docstring as Markdown. Raises `ValueError` where there is none."""
    text = documented if isinstance(documented, str) else inspect.getdoc(documented)
    if not text:
        raise ValueError(f"{documented!r} has no docstring")
    return markdown(text)


def markdown(text: str) -> str:
    paragraphs = re.split(r"\n{2,}", text.strip())
    return "\n\n".join(filter(None, map(_paragraph, paragraphs))) + "\n"


def _paragraph(text: str) -> str:
    if re.match(r"=+( +=+)+$", text, re.MULTILINE):
        return _table(text)
    if text.startswith("    "):
        return text
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    text = text.removesuffix("::") + (":" if text.endswith("::") else "")
    items = re.split(r"^- ", text, flags=re.MULTILINE)
    if len(items) > 1:
        return "\n".join([_filled(items[0]), *(_item(item) for item in items[1:])]).strip()
    return _filled(text)


def _filled(text: str) -> str:
    return textwrap.fill(
        " ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False
    )


def _item(text: str) -> str:
    wide = textwrap.TextWrapper(
        WIDTH,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wide.fill(" ".join(text.split()))


def _table(text: str) -> str:
    """A table between lines of ``===``, as docstrings have them; without names of columns, it has
    two such lines."""
    lines = text.splitlines()
    starts = [column.start() for column in re.finditer("=+", lines[0])]
    ends = [*starts[1:], None]
    found = [line for line in lines if not line.startswith("=")]
    rows = [[line[start:end] for start, end in zip(starts, ends, strict=True)] for line in found]
    if len(lines) == len(found) + 2:
        rows.insert(0, [""] * len(starts))
    rows.insert(1, ["---"] * len(starts))
    return re.sub(r"``(.+?)``", r"`\1`", "\n".join(map(_row, rows)))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.strip() for cell in cells)} |"


# ---- Python


def signature(function: Any, *, bound: bool = False) -> str:
    """Parameters and result, with the annotations as they are written."""
    found = inspect.signature(function)
    shown: list[str] = []
    star = False
    for position, parameter in enumerate(found.parameters.values()):
        if position == 0 and bound and parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        name = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        star = star or name == "*"
        text = f"{name}{parameter.name}{_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            equals = " = " if ":" in text else "="
            text += f"{equals}{_default(parameter.default)}"
        shown.append(text)
    back = _annotation(found.return_annotation, " -> ")
    return f"({', '.join(shown)}){back}"


def _annotation(annotation: Any, before: str = ": ") -> str:
    if annotation is inspect.Parameter.empty or annotation is None:
        return ""
    return f"{before}{annotation if isinstance(annotation, str) else annotation.__name__}"


def _default(value: Any) -> str:
    factory = "<factory>" in repr(value) or callable(value)
    return "..." if factory else repr(value)


def code(text: str) -> str:
    """A signature as a block, on lines that are not too long."""
    if len(text) > WIDTH - 10:
        before, _, rest = text.partition("(")
        inner, back = rest.rsplit(")", 1)[0], text[text.rindex(")") :]
        text = f"{before}(\n" + "".join(f"    {one},\n" for one in _commas(inner)) + back
    return f"```text\n{text}\n```\n"


def _commas(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            yield text[start:at].strip()
            start = at + 1
    yield text[start:].strip()


def function_section(name: str, function: Any, level: int = 3) -> Iterator[str]:
    yield heading(level, f"`{name}`")
    yield code(f"{name.rpartition('.')[2]}{signature(function)}")
    yield body(function)


def class_section(name: str, cls: type[Any], level: int = 3, *, made: bool = True) -> Iterator[str]:
    """A class with its public methods and properties; ``made``: by whoever uses it."""
    short = name.rpartition(".")[2]
    yield heading(level, f"`{name}`")
    yield code(f"class {short}{signature(cls) if made else ''}")
    yield body(cls)
    for found, member in vars(cls).items():
        if found.startswith("_") or found in NOT_PUBLIC.get(short, ()):
            continue
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if isinstance(inner, property):
            yield f"**`{short}.{found}`**\n"
            yield body(inner)
        elif inspect.isfunction(inner):
            yield f"**`{short}.{found}{signature(inner, bound=True)}`**\n"
            yield body(inner)


def formats_section(module: ModuleType, kind: type[Any]) -> Iterator[str]:
    """Ready-made readers or writers: their table, and what their options are."""
    yield body(module)
    first: dict[type[Any], str] = {}
    for name, made in vars(module).items():
        if not isinstance(made, kind):
            continue
        if type(made) in first:
            yield heading(3, f"`{module.__name__.rpartition('.')[2]}.{name}`")
            yield f"As `{first[type(made)]}`; see the table.\n"
            continue
        first[type(made)] = made.name
        own = type(made).__dict__.get("__call__")
        called = signature(own, bound=True).partition(" -> ")[0] if own else ""
        yield heading(3, f"`{module.__name__.rpartition('.')[2]}.{name}`")
        if called:
            yield code(f"{name}{called}")
        yield body(type(made))


def library() -> Iterator[str]:
    yield heading(2, "In a job: `pytxmr`")
    yield body(
        "``pytxmr.params``, a dict, has the parameters of the job: the declared defaults, with "
        "those that ``-D NAME=VALUE`` sets on top."
    )
    for name in ("counter", "status", "side_file", "to", "batch", "columns"):
        yield from function_section(f"pytxmr.{name}", getattr(pytxmr, name))
    yield from class_section("pytxmr.Groups", pytxmr.Groups, made=False)
    yield from class_section("pytxmr.MapReduce", pytxmr.MapReduce, made=False)
    yield from class_section("pytxmr.RangePartitioner", pytxmr.RangePartitioner, made=False)
    yield heading(3, "`pytxmr.identity`")
    yield body(type(folds.identity))
    yield from class_section("pytxmr.Step", Step)

    yield heading(2, "Ready-made reducers and combiners: `pytxmr.folds`")
    yield body(folds)

    yield heading(2, "Readers: `pytxmr.readers`")
    yield from formats_section(readers, Reader)
    yield heading(2, "Writers: `pytxmr.writers`")
    yield from formats_section(writers, Writer)

    yield heading(2, "Jobs of several steps: `pytxmr.pipeline`")
    yield body(pipeline)
    for name in _functions_of(pipeline):
        yield from function_section(f"pipeline.{name}", getattr(pipeline, name))
    yield from class_section("pipeline.View", pipeline.View, made=False)

    yield heading(2, "Running jobs")
    yield from function_section("pytxmr.run", pytxmr.run)
    yield from class_section("pytxmr.result.Result", result.Result, made=False)

    yield heading(2, "Tests: `pytxmr.testing`")
    yield from function_section("testing.run_inline", testing.run_inline)
    yield from class_section("testing.InlineResult", testing.InlineResult, made=False)
    yield from class_section("testing.BadRecord", testing.BadRecord, made=False)
    yield from class_section("testing.InMemoryCluster", InMemoryCluster)

    yield heading(2, "Twisted programs")
    yield from class_section("pytxmr.runners.local.LocalCluster", LocalCluster)
    yield from class_section("pytxmr.client.Client", client.Client, made=False)
    yield from class_section("pytxmr.client.JobOptions", client.JobOptions)
    yield from function_section("pytxmr.client.make_spec", client.make_spec)
    yield from class_section("pytxmr.model.JobSpec", model.JobSpec, made=False)
    yield from function_section("pytxmr.net.secret.read_secret", secret.read_secret)

    yield heading(2, "Errors: `pytxmr.errors`")
    yield "`pytxmr.PytxmrError` and `pytxmr.JobFailed` are there without the last name.\n"
    yield "| Error | When |\n| --- | --- |\n" + "".join(_errors(errors.PytxmrError, 0))


def _functions_of(module: ModuleType) -> list[str]:
    """What a module of views makes views with; the other functions are no views' makers."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and value.__annotations__.get("return") == "View"
        and value.__module__ == module.__name__
    ]


def _errors(error: type[Exception], depth: int) -> Iterator[str]:
    if error.__module__ == errors.__name__:
        indent = "&nbsp;" * 4 * depth
        yield _row([f"{indent}`{error.__name__}`", body(error).replace("\n", " ")]) + "\n"
    for child in error.__subclasses__():
        yield from _errors(child, depth + 1)


# ---- commands


def commands() -> Iterator[str]:
    yield heading(2, "Commands")
    parser = options.build_parser()
    known: dict[str, str] = {}
    choices = next(it for it in parser._actions if it.dest == "command")._choices_actions
    texts = {choice.dest: choice.help or "" for choice in choices}
    for name, command in options.parsers(parser).items():
        yield heading(3, f"`pytxmr {name}`")
        yield _escaped(f"{texts[name][:1].upper()}{texts[name][1:]}.\n")
        yield "\n".join(_options(command, known)) + "\n"
    for module, name in ((jobtracker, "jobtracker"), (tasktracker, "tasktracker")):
        yield heading(3, f"`twistd {name}`")
        yield markdown(module.Options.longdesc)
        yield "\n".join(_daemon_options(module.Options)) + "\n"


def _options(command: argparse.ArgumentParser, known: dict[str, str]) -> Iterator[str]:
    """An item for each option; many that an earlier command has explained are named in one."""
    actions = [it for it in command._actions if not isinstance(it, argparse._HelpAction)]
    items = list(map(_option, actions))
    shared = Counter(known[item] for item in items if item in known)
    again: dict[str, list[str]] = {}
    for item in items:
        earlier = known.setdefault(item, command.prog)
        if shared[earlier] > FEW:
            again.setdefault(earlier, []).append(item.partition(": ")[0].removeprefix("- "))
        else:
            yield item
    for name, names in again.items():
        yield _item(f"as for `{name}`: {', '.join(names)}")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")


def _option(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    value = "" if action.nargs == 0 else f" {metavar}"
    names = [f"`{option}{value}`" for option in action.option_strings] or [f"`{metavar}`"]
    return _item(f"{', '.join(names)}: {_escaped(str(action.help))}")


def _daemon_options(found: Any) -> Iterator[str]:
    values = {"workers": "N", "memory": "SIZE", "lease": "SECONDS", "name": "NAME"}
    values |= {"secret-file": "FILE", "state-dir": "DIR", "work-dir": "DIR"}
    for name, short, default, text, *_ in found.optParameters:
        if name == "secret-file":
            default = "PYTXMR_SECRET_FILE"  # what that is just now is no default
        if name == "memory":
            default = f"{default >> 20}MiB"
        shown = "" if default is None else f" (default: {default})"
        value = values.get(name, "ENDPOINT")
        yield _item(f"{_names(name, short, f' {value}')}: {text}{shown}")
    for name, short, text in found.optFlags:
        yield _item(f"{_names(name, short, '')}: {text}")


def _names(name: str, short: str | None, value: str) -> str:
    return ", ".join([f"`--{name}{value}`", *([f"`-{short}{value}`"] if short else [])])


def page() -> str:
    return "\n".join([HEAD, *library(), *commands()])


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else PAGE).write_text(page(), "utf-8")
