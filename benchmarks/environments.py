"""A virtual environment for pytxmr, for each peer and for the plot, each made when it is needed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

#: What an installation of pytxmr is made of.
_SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "pytxmr", "twisted", "examples")
_INSTALL_SECONDS = 900

_LIST_PACKAGES = """
import importlib.metadata, json
found = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
print(json.dumps({name: found[name] for name in sorted(found)}))
"""

#: What pip installs for a peer.
PEERS: dict[str, tuple[str, ...]] = {
    "pyspark": ("pyspark~=4.0",),
    "dampr": ("dampr~=0.2.3",),
    "dask": ("dask[bag]",),
    # ujson: what mrjob encodes records with if it is there; a quarter faster than the default.
    "mrjob": ("mrjob~=0.7.4", "ujson", "setuptools<81"),
    "polars": ("polars",),
    "matplotlib": ("matplotlib~=3.9",),
}
#: An environment of this name has pytxmr as it was before what makes it survive faults was begun.
BEFORE_FAULTS = "pytxmr before faults"
_REVISIONS = {BEFORE_FAULTS: "e580b0b3efd0537db664ee059cb8b5deb6b8c908"}
#: An environment of this name has what pytxmr runs jobs on Apache Spark by.
ON_SPARK = "pytxmr on spark"
#: An environment of this name has what `pip install pytxmr` brings, and nothing else.
ALONE = "pytxmr alone"
#: An environment of this name has pytxmr as it is where there is no C compiler.
UNCOMPILED = "pytxmr uncompiled"
#: The environments with pytxmr as it is, and their extras.
_OURS = {"pytxmr": "[batch,lz4,zstd]", ON_SPARK: "[spark]", ALONE: "", UNCOMPILED: ""}
#: What a peer needs beside Python: a command that says its version.
NEEDS: dict[str, tuple[str, ...]] = dict.fromkeys(("pyspark", ON_SPARK), ("java", "-version"))


class Unavailable(Exception):
    """The reference cannot be had, or fails; the text is the reason."""


class Environments:
    """Virtual environments below a directory. ``python(name)`` makes one, or finds it made.

    What cannot be installed is tried once in a run, and reported whenever it is asked for.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready: dict[str, Path | Unavailable] = {}

    def python(self, name: str) -> Path:
        """The interpreter of an environment: "pytxmr", `ON_SPARK`, `ALONE`, `UNCOMPILED`,
        `BEFORE_FAULTS` or one of `PEERS`.

        Raises `Unavailable`."""
        if name not in self._ready:
            try:
                self._ready[name] = self._make(name)
            except Unavailable as error:
                self._ready[name] = error
        found = self._ready[name]
        if isinstance(found, Unavailable):
            raise found
        return found

    def versions(self, name: str) -> dict[str, str]:
        """The version of each package in an environment, and of what else it needs."""
        listed = _output(self.python(name), "-c", _LIST_PACKAGES)
        found: dict[str, str] = json.loads(listed.splitlines()[-1])
        for tool in ("pip", "setuptools"):
            found.pop(tool, None)
        if name in found:
            found = {name: found[name]} | found
        if name in NEEDS:
            found[NEEDS[name][0]] = first_line(*NEEDS[name])
        return found

    def _make(self, name: str) -> Path:
        if name in NEEDS:
            _output(*NEEDS[name])
        place = self._directory / name.replace(" ", "-")
        python = place / "bin" / "python"
        if name in _OURS:
            wanted = hashlib.sha256(b"".join(_source_bytes())).hexdigest() + _OURS[name]
        else:
            wanted = _REVISIONS[name] if name in _REVISIONS else " ".join(PEERS[name])
        wanted += f" by {sys.version}"
        stamp = place / ".made-of"
        if stamp.exists() and stamp.read_text() == wanted:
            return python
        print(f"installing {name}", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        _output(sys.executable, "-m", "venv", str(place))
        install = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
        if name in _OURS:
            source = place / "source"
            _copy_sources(source)
            compiler = {"CC": "no-such-compiler"} if name == UNCOMPILED else {}
            _output(*install, f"{source}{_OURS[name]}", **compiler)
        elif name in _REVISIONS:
            source = place / "source"
            _extract(_REVISIONS[name], source)
            _output(*install, source)
        else:
            _output(*install, *PEERS[name])
        stamp.write_text(wanted)
        return python


def first_line(*command: object) -> str:
    """The first line that a command writes, as its version. Raises `Unavailable`."""
    return _output(*command).splitlines()[0]


def _output(*command: object, **environment: str) -> str:
    """What a command writes, errors included, with these variables in its environment. Raises
    `Unavailable` if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
    except FileNotFoundError:
        raise Unavailable(f"there is no {words[0]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(words[1:4])} did not end") from None
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if "ERROR" in line] or [done.stdout]
        raise Unavailable(f"cannot be installed: {said[0].strip()[:300]}")
    return done.stdout


def _source_files() -> Iterator[Path]:
    for name in _SOURCES:
        path = CHECKOUT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            made = "__pycache__" in file.parts or file.name == "dropin.cache"
            if file.is_file() and not made and file.suffix != ".so":
                yield file


def _source_bytes() -> Iterator[bytes]:
    for file in _source_files():
        yield str(file.relative_to(CHECKOUT)).encode()
        yield file.read_bytes()


def _extract(revision: str, target: Path) -> None:
    """The files of an earlier commit. Raises `Unavailable` where its history is not there."""
    archive = target.with_suffix(".tar")
    _output("git", "-C", CHECKOUT, "archive", f"--output={archive}", revision)
    target.mkdir()
    _output("tar", "-xf", archive, "-C", target)


def _copy_sources(target: Path) -> None:
    # Not installed from the checkout itself: setuptools would leave its build there, and take
    # modules from a build that was left there before.
    for file in _source_files():
        copy = target / file.relative_to(CHECKOUT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
