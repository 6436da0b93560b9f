"""The inputs, made from a seed: the same bytes on every machine, made once and kept.

Text is words of a vocabulary of 50,000, drawn by Zipf's law (s = 1.07), twelve a line, as natural
text roughly is, seven letters a word on average. Random lines are 99 printable characters each.
"""

from __future__ import annotations

import random
import shutil
import string
from collections.abc import Callable, Iterator
from itertools import accumulate, cycle, islice
from pathlib import Path

#: To be changed when what is made changes: it is part of the names under which inputs are kept.
SEED = 20260101

MEGABYTE = 1_000_000
LINE_BYTES = 100
WORDS_PER_LINE = 12
#: Larger texts are this one over and over, which changes nothing about what counting costs.
LARGEST_TEXT_MADE = 200 * MEGABYTE

_VOCABULARY = 50_000
_EXPONENT = 1.07
#: By rank, over and over: a mean of seven letters, also among the few words that come most often.
_LENGTHS = (7, 6, 8, 5, 9, 4, 10, 7, 3, 11)
_PIECE_WORDS = 120_000
_PRINTABLE = (string.ascii_letters + string.digits + "-_").encode() * 4


class Inputs:
    """Makes inputs below a directory. Every method gives the path of what it made, now or before.

    ``scale`` makes all of them smaller, to try things out.
    """

    def __init__(self, directory: Path, scale: float = 1.0) -> None:
        self._directory = directory
        self._scale = scale
        directory.mkdir(parents=True, exist_ok=True)

    def text(self, megabytes: float) -> Path:
        """Zipf-distributed words; every size begins with the same ones."""
        size = self._scaled(megabytes * MEGABYTE)
        largest = self._scaled(LARGEST_TEXT_MADE)
        if size <= largest:
            return self._made(f"text-{size}", lambda path: _write(path, _text(size)))
        whole = self.text(LARGEST_TEXT_MADE / MEGABYTE)

        def repeat(path: Path) -> None:
            with path.open("wb") as file:
                for _ in range(size // largest):
                    with whole.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)

        return self._made(f"text-{size}", repeat)

    def small_text(self) -> Path:
        """A text of 1 KB, whatever the scale."""
        return self._made("text-1kb", lambda path: _write(path, _text(1000)))

    def lines(self, count: int) -> Path:
        """Random lines of 100 bytes, hardly two of them the same."""
        count = self._scaled(count)
        return self._made(f"lines-{count}", lambda path: _write(path, _random_lines(count)))

    def numbered_lines(self, count: int) -> Path:
        """``count`` lines of 64 bytes each, a number in each, whatever the scale."""
        lines = (f"{number:063}\n".encode() for number in range(count))
        return self._made(f"numbers-{count}", lambda path: _write(path, lines))

    def relations(self) -> tuple[Path, Path]:
        """Two relations of 100 MB: lines ``L<TAB>key<TAB>payload``, or R, of 100 bytes.

        Keys of the left one are distinct. Of the right one's rows nine in ten have a left row of
        their own, every twentieth shares a left row with others, every twentieth has none.
        """
        rows = self._scaled(MEGABYTE)
        left = f"left-{rows}", lambda path: _write(path, _left_rows(rows))
        right = f"right-{rows}", lambda path: _write(path, _right_rows(rows))
        return self._made(*left), self._made(*right)

    def small_files(self) -> tuple[Path, Path]:
        """A directory of 10,000 files of 1 KB, and one file that holds the same lines."""
        files = self._scaled(10_000)
        directory = self._made(f"files-{files}", lambda path: _write_files(path, files))

        def join(path: Path) -> None:
            _write(path, (file.read_bytes() for file in sorted(directory.iterdir())))

        return directory, self._made(f"files-{files}-in-one", join)

    def _scaled(self, count: float) -> int:
        return max(1, round(count * self._scale))

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self._directory / f"{name}-{SEED}"
        if not path.exists():
            # What was begun and not finished must not be taken for the input next time.
            partial = self._directory / f"{name}.partial"
            if partial.is_dir():
                shutil.rmtree(partial)
            make(partial)
            partial.rename(path)
        return path


def warm(path: Path) -> None:
    """Read a file, or the files of a directory, so that both sides find it in the page cache."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb") as source:
            while source.read(1 << 20):
                pass


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


def _words() -> list[str]:
    """The vocabulary, the most frequent word first."""
    chance = random.Random(SEED)
    words: dict[str, None] = {}
    for length in cycle(_LENGTHS):
        if len(words) == _VOCABULARY:
            break
        word = "".join(chance.choices(string.ascii_lowercase, k=length))
        while word in words:
            # Of three letters there are not enough; one more then and again changes no mean.
            word += chance.choice(string.ascii_lowercase)
        words[word] = None
    return list(words)


def _text_lines() -> Iterator[str]:
    """Lines without their ends, for ever."""
    words = _words()
    chance = random.Random(SEED + 1)
    weights = list(accumulate(rank**-_EXPONENT for rank in range(1, len(words) + 1)))
    while True:
        drawn = chance.choices(words, cum_weights=weights, k=_PIECE_WORDS)
        for at in range(0, len(drawn), WORDS_PER_LINE):
            yield " ".join(drawn[at : at + WORDS_PER_LINE])


def _text(size: int) -> Iterator[bytes]:
    """Whole lines, of about ``size`` bytes together."""
    lines = _text_lines()
    while size > 0:
        some = min(5000, 1 + size // (WORDS_PER_LINE * 8))
        piece = "\n".join(islice(lines, some)) + "\n"
        size -= len(piece)
        yield piece.encode()


def _random_lines(count: int) -> Iterator[bytes]:
    chance = random.Random(SEED + 2)
    while count:
        some = min(100_000, count)
        data = bytearray(chance.randbytes(some * LINE_BYTES).translate(_PRINTABLE))
        data[LINE_BYTES - 1 :: LINE_BYTES] = b"\n" * some
        count -= some
        yield bytes(data)


def _rows(tag: str, keys: Iterator[int], chance: random.Random) -> Iterator[bytes]:
    head = len(f"{tag}\t{0:012}\t")
    for key in keys:
        payload = chance.randbytes(LINE_BYTES - head - 1).translate(_PRINTABLE)
        yield b"%s\t%012d\t%s\n" % (tag.encode(), key, payload)


def _left_rows(count: int) -> Iterator[bytes]:
    chance = random.Random(SEED + 3)
    keys = list(range(count))
    chance.shuffle(keys)
    return _rows("L", iter(keys), chance)


def _right_rows(count: int) -> Iterator[bytes]:
    chance = random.Random(SEED + 4)
    own = count * 9 // 10
    shared = count // 20
    keys = list(range(own))
    keys += (chance.randrange(own) for _ in range(shared))
    keys += range(count, 2 * count - own - shared)
    chance.shuffle(keys)
    return _rows("R", iter(keys), chance)


def _write_files(directory: Path, files: int) -> None:
    directory.mkdir()
    lines = _text_lines()
    for number in range(files):
        text = ""
        while len(text) < 1000 - WORDS_PER_LINE * 4:
            text += next(lines) + "\n"
        (directory / f"{number:05}").write_bytes(text.encode())
