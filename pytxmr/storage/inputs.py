"""From what the user names as input to the splits that map tasks read.

Planning looks at names and sizes, by one listing of each directory, and into a file only if it is
to be cut, for whether it is compressed. Where exactly a line ends is found by whoever reads the
split (see `records.readers`), so a plan costs hardly any reading, and any size of split is right.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any
from zlib import crc32

from pytxmr.errors import AttemptFailed, BadInput
from pytxmr.model import FileRange, InputSplit, shown_path
from pytxmr.records.compressed import CUT, MAGIC_BYTES, format_of, frame_starts
from pytxmr.records.readers import open_stored
from pytxmr.records.remote import checked_url, is_remote, list_url

SPLIT_BYTES = 48 << 20
#: Of a job that combines, on one machine. What its maps spill hardly grows with what they read, so
#: fewer spills cost less; and where there is no other machine none has to do a lost task again.
COMBINED_SPLIT_BYTES = 128 << 20
#: Evening out stops here: smaller tasks cost more than they spread.
FEWEST_SPLIT_BYTES = 256 << 10
#: Of a job whose results are kept to be used again: what a file's pieces are must not depend on
#: what other files there are, or on who works on it; a change of a file costs a piece of it.
REUSED_SPLIT_BYTES = 16 << 20
#: Of such a job up to so many files have splits of their own. More are grouped.
MOST_ALONE = 500
#: About so many in a group.
_GROUPED = 64
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

    Raises `BadInput` for what is missing or not a file, and for a directory, or a file that was
    named itself, that is unreadable.
    """
    return [file for path in paths for file in _expand(path)]


def absolute_names(names: Iterable[str], stdin: Any = None) -> Iterator[str]:
    """The paths that were named on a command line, absolute; URLs, which are to be readable.

    ``@FILE`` stands for the names in a file, one a line, without empty lines and those that begin
    with ``#``; ``@-`` for those in ``stdin``, a binary file or None. Relative ones are so to the
    working directory, as those on the command line.
    Raises `BadInput` for a file that cannot be read, or has no name in it, and as `checked_url`.
    """
    for name in names:
        if not name.startswith("@"):
            yield _absolute(name)
            continue
        listed = [line for line in _lines_of(name[1:], stdin) if line and line[0] != "#"]
        if not listed:
            raise BadInput(f"no file is named in {name[1:]}")
        for line in listed:
            yield _absolute(line)


def _absolute(name: str) -> str:
    return checked_url(name) if is_remote(name) else os.path.abspath(name)


def _lines_of(path: str, stdin: Any) -> list[str]:
    try:
        if path == "-":
            data = stdin.read() if stdin else b""
        else:
            with open(path, "rb") as file:
                data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise BadInput(f"cannot read the names of the input in {path!r}: {reason}") from error
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _expand(path: str) -> Iterator[InputFile]:
    if is_remote(path):
        for url, size in list_url(path):
            yield InputFile(url, size)
    elif glob.has_magic(path) and not os.path.lexists(path):
        yield from _matching(path)
    elif os.path.isdir(path):
        yield from _directory(path)
    else:
        yield _named(path)


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
    if "**" in pattern:
        _check_links(found)
    # By path, since ``**`` matches directories and also what is in them.
    files: dict[str, InputFile] = {}
    for name in found:
        status = _status(name, partial(os.stat, name))
        is_directory = stat.S_ISDIR(status.st_mode)
        below = _directory(name) if is_directory else [_checked(name, status)]
        files.update((file.path, file) for file in below)
    yield from files.values()


def _check_links(names: list[str]) -> None:
    """``**`` follows links, also back to where they are: what is there would be read many times."""
    places: dict[str, str] = {}
    for place in dict.fromkeys(map(os.path.dirname, names)):
        target = os.path.realpath(place)
        first = places.setdefault(target, place)
        if place.startswith(os.path.join(first, "")) and place != first:
            raise BadInput(f"cannot read {place}: the link leads back to {target}")


def _directory(path: str, followed: tuple[str, ...] = ()) -> Iterator[InputFile]:
    """``followed``: the directories from which links have led here."""
    try:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    apart = _outputs_by_name(found)
    while found:
        entry = found.pop()  # what it remembers of a file goes with it
        if entry.name.startswith((".", "_")) or entry.name in apart:
            continue
        if _is_directory(entry):
            if entry.is_symlink():
                target, here = os.path.realpath(entry.path), os.path.realpath(path)
                below = os.path.join(target, "")
                if any(os.path.join(one, "").startswith(below) for one in (*followed, here)):
                    raise BadInput(f"cannot read {entry.path}: the link leads back to {target}")
                yield from _directory(entry.path, (*followed, here))
            else:
                yield from _directory(entry.path, followed)
        else:
            yield _checked(entry.path, _status(entry.path, entry.stat))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise BadInput(f"cannot read {entry.path}: {error.strerror}") from error


def _outputs_by_name(entries: list[os.DirEntry[str]]) -> Container[str]:
    """Of a job's output, the directories of its outputs by name: each is an input by itself."""
    manifest = next((entry for entry in entries if entry.name == "_SUCCESS"), None)
    if manifest is None or not any(entry.is_dir() for entry in entries):
        return ()
    try:
        with open(manifest.path, encoding="utf-8") as file:
            return frozenset(json.load(file)["outputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # somebody else's


def _named(path: str) -> InputFile:
    """Opened, which is the one check of readability that is right for every user and filesystem. Of
    files that were found in directories there may be very many: whoever reads them will see."""
    _check_name(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    try:
        return _checked(path, os.fstat(fd))
    finally:
        os.close(fd)


def _status(path: str, ask: Callable[[], os.stat_result]) -> os.stat_result:
    _check_name(path)
    try:
        return ask()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def _check_name(path: str) -> None:
    # Paths travel as text: over the wire, and into messages.
    if "\0" in path or not _is_unicode(path):
        raise BadInput(f"cannot read {path!a}: rename it, without NUL and in UTF-8")


def _checked(path: str, status: os.stat_result) -> InputFile:
    if not stat.S_ISREG(status.st_mode):
        piped = stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)
        hint = "; name - to have standard input read" if piped else ""
        raise BadInput(f"cannot read {path}: not a file{hint}")
    return InputFile(path, status.st_size)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def even_split_bytes(total_bytes: int, workers: int, most: int = SPLIT_BYTES) -> int:
    """The split size for a job that names none: ``most`` at the most, and such that the map tasks
    come out as whole rounds of the workers, so that none idles through the last one.
    """
    rounds = -(-total_bytes // (most * max(1, workers))) or 1
    return max(FEWEST_SPLIT_BYTES, -(-total_bytes // (rounds * max(1, workers))))


#: ``cut(file, pieces)``: the offsets at which a file may be cut into about so many pieces, its
#: beginning and its end included.
Cut = Callable[[InputFile, int], list[int]]


def cut_evenly(file: InputFile, pieces: int) -> list[int]:
    return [file.size_bytes * piece // pieces for piece in range(pieces + 1)]


def cut_at(split_bytes: int) -> Cut:
    """Cut at the multiples of that: a file that grows keeps the pieces that it has."""
    return lambda file, pieces: [*range(0, file.size_bytes, split_bytes), file.size_bytes]


def cut_nowhere(file: InputFile, pieces: int) -> list[int]:
    return [0, file.size_bytes]


class CutWhereItMay:
    """Looks into the files that are to be cut: some that are compressed may be cut at some places,
    others nowhere. ``whole`` counts those that are large, and stay whole.
    """

    def __init__(self, places: Cut = cut_evenly) -> None:
        """``places``: where to cut a file that may be cut anywhere."""
        self._places = places
        self.whole = 0

    def __call__(self, file: InputFile, pieces: int) -> list[int]:
        """Raises `BadInput` if the file cannot be read, or is not what its name says."""
        even = self._places(file, pieces)
        try:
            with open_stored(FileRange(file.path, 0, file.size_bytes)) as opened:
                kind = format_of(file.path, opened.head(MAGIC_BYTES))
                # bzip2: whoever reads a range finds the blocks in it.
                if kind in (None, "bzip2") and opened.seekable():
                    return even
                starts: Iterator[int] = iter(())
                # Elsewhere each header of a block would be a request.
                if kind in CUT and not is_remote(file.path):
                    starts = frame_starts(opened, file.path, str(kind))
                cuts = [0, *_first_after(even[1:-1], starts), file.size_bytes]
        except OSError as error:
            reason = error.strerror or error
            raise BadInput(f"cannot read {shown_path(file.path)}: {reason}") from error
        except AttemptFailed as error:
            raise BadInput(f"cannot read {error.message}") from error
        self.whole += len(cuts) == 2
        return cuts


def _first_after(wanted: list[int], starts: Iterator[int]) -> Iterator[int]:
    """Of the rising ``starts`` the first at or after each of those ``wanted``, none twice."""
    place = -1
    for offset in wanted:
        if place >= offset:
            continue
        place = next((start for start in starts if start >= offset), -1)
        if place < 0:
            return
        yield place


def plan_splits(
    files: Iterable[InputFile], split_bytes: int, cut: Cut = cut_evenly
) -> list[InputSplit]:
    """Cut large files into even pieces of at most ``split_bytes``, or where ``cut`` says; let small
    ones share a split.

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
            raise _too_many(file, split_bytes)
        if pieces == 1:
            small.append(FileRange(file.path, 0, file.size_bytes))
            small_bytes += file.size_bytes
            continue
        for start, end in pairwise(cut(file, pieces)):
            splits.append(InputSplit((FileRange(file.path, start, end),)))
    if small:
        splits.append(InputSplit(tuple(small)))
    return splits


def _too_many(file: InputFile, split_bytes: int) -> BadInput:
    return BadInput(
        f"{shown_path(file.path)}: splits of {split_bytes} bytes make more than {MOST_SPLITS} map "
        f"tasks; give a larger --split-size"
    )


def plan_kept_splits(files: Iterable[InputFile], split_bytes: int, cut: Cut) -> list[InputSplit]:
    """The same for a job whose results are kept: a file that comes, goes or changes leaves the
    splits of the others as they were, up to `MOST_ALONE` files. Of more it changes those of its
    group.

    Raises `BadInput` as `plan_splits`.
    """
    splits: list[InputSplit] = []
    for group in _groups([file for file in files if file.size_bytes]):
        splits += plan_splits(group, split_bytes, cut)
        if len(splits) > MOST_SPLITS:
            raise _too_many(group[-1], split_bytes)
    return splits


def _groups(files: list[InputFile]) -> Iterator[list[InputFile]]:
    if len(files) <= MOST_ALONE:
        yield from ([file] for file in files)
        return
    group: list[InputFile] = []
    for file in files:
        group.append(file)
        # By its name, a file ends a group whatever comes before it.
        name = "/".join(file.path.split("/")[-2:])
        if crc32(name.encode()) % _GROUPED == 0 or len(group) == 4 * _GROUPED:
            yield group
            group = []
    if group:
        yield group
