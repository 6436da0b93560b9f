"""From what the user names as input to the splits that map tasks read.

Planning looks only at names and sizes. Where exactly a line ends is found by whoever reads the
split (see `records.readers`), so a plan costs no reading, and any size of split is right.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytxmr.errors import BadInput
from pytxmr.model import FileRange, InputSplit

SPLIT_BYTES = 48 << 20
#: Evening out stops here: smaller tasks cost more than they spread.
FEWEST_SPLIT_BYTES = 256 << 10
#: More map tasks than this are refused: the split size is almost certainly a mistake.
MOST_SPLITS = 100_000
#: Small files share a split, up to so many: their names travel in one message.
MOST_FILES_PER_SPLIT = 5000


@dataclass(frozen=True, slots=True)
class InputFile:
    path: str
    size_bytes: int


def list_inputs(paths: Iterable[str]) -> list[InputFile]:
    """The files that the paths name, in order of the paths, then of the names.

    A path is a file, a directory, for the files in it and below, or a glob, for the files and
    directories that match; ``**`` matches at any depth. Names that begin with ``.`` or ``_``, such
    as _SUCCESS, are left out unless named, or matched by a part of a glob that begins likewise.

    Raises `BadInput` for what is missing, unreadable or not a file.
    """
    return [file for path in paths for file in _expand(path)]


def _expand(path: str) -> Iterator[InputFile]:
    if glob.has_magic(path) and not os.path.lexists(path):
        yield from _matching(path)
    elif os.path.isdir(path):
        yield from _directory(path)
    else:
        yield _file(path)


def _matching(pattern: str) -> Iterator[InputFile]:
    named = [part for part in pattern.split(os.sep) if part.startswith("_")]
    found = [
        name
        for name in sorted(glob.glob(pattern, recursive=True))
        if all(
            any(fnmatch.fnmatchcase(part, like) for like in named)
            for part in name.split(os.sep)
            if part.startswith("_")
        )
    ]
    if not found:
        raise BadInput(f"no file matches {pattern}")
    # By path, since ``**`` matches directories and also what is in them.
    files: dict[str, InputFile] = {}
    for name in found:
        below = _directory(name) if os.path.isdir(name) else [_file(name)]
        files.update((file.path, file) for file in below)
    yield from files.values()


def _directory(path: str) -> Iterator[InputFile]:
    try:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    for entry in found:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from _directory(entry.path)
        else:
            yield _file(entry.path)


def _file(path: str) -> InputFile:
    # Paths travel as text: over the wire, and into messages.
    if "\0" in path or not _is_unicode(path):
        raise BadInput(f"cannot read {path!a}: rename it, without NUL and in UTF-8")
    try:
        # Opening is the one check of readability that is right for every user and filesystem.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"cannot read {path}: not a file")
    return InputFile(path, status.st_size)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def even_split_bytes(total_bytes: int, workers: int) -> int:
    """The split size for a job that names none: `SPLIT_BYTES` at the most, and such that the map
    tasks come out as whole rounds of the workers, so that none idles through the last one.
    """
    rounds = -(-total_bytes // (SPLIT_BYTES * max(1, workers))) or 1
    return max(FEWEST_SPLIT_BYTES, -(-total_bytes // (rounds * max(1, workers))))


def plan_splits(files: Iterable[InputFile], split_bytes: int) -> list[InputSplit]:
    """Cut large files into even pieces of at most ``split_bytes``; let small ones share a split.

    Raises `BadInput` if that makes more than `MOST_SPLITS`.
    """
    splits: list[InputSplit] = []
    small: list[FileRange] = []
    small_bytes = 0
    for file in files:
        if not file.size_bytes:
            continue
        pieces = -(-file.size_bytes // split_bytes)
        full = small_bytes + file.size_bytes > split_bytes or len(small) == MOST_FILES_PER_SPLIT
        if small and full:
            splits.append(InputSplit(tuple(small)))
            small, small_bytes = [], 0
        if len(splits) + pieces > MOST_SPLITS:
            raise BadInput(
                f"{file.path}: splits of {split_bytes} bytes make more than {MOST_SPLITS} map "
                f"tasks; give a larger --split-size"
            )
        if pieces == 1:
            small.append(FileRange(file.path, 0, file.size_bytes))
            small_bytes += file.size_bytes
            continue
        cuts = [file.size_bytes * piece // pieces for piece in range(pieces + 1)]
        for start, end in zip(cuts, cuts[1:], strict=False):
            splits.append(InputSplit((FileRange(file.path, start, end),)))
    if small:
        splits.append(InputSplit(tuple(small)))
    return splits
