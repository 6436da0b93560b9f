"""What input from every filesystem promises: the tests of `Inputs`, for each kind of server."""

from __future__ import annotations

import bz2
import gzip
from collections import Counter

import pytest

from pytxmr.errors import BadInput
from pytxmr.records import remote
from pytxmr.records.readers import line_blocks, split_lines
from pytxmr.storage.inputs import CutWhereItMay, InputFile, list_inputs, plan_splits

TEXT = b"".join(b"line %d of the text\n" % number for number in range(2000))


def lines_of(url: str, split_bytes: int) -> tuple[list[bytes], int]:
    """The lines of what a URL names, and in how many splits they are read."""
    splits = plan_splits(list_inputs([url]), split_bytes, CutWhereItMay())
    lines = [
        line
        for split in splits
        for part in split.ranges
        for block in line_blocks(part)
        for line in split_lines(*block)[1]
    ]
    return lines, len(splits)


class Inputs:
    def test_directories_and_globs_are_what_they_are_here(self, place):
        for name in ("a", "b/c.txt", "b/d", "b/_x", "b/.y", "_SUCCESS", "part-0"):
            place.put(name, name.encode())
        found = [(file.path, file.size_bytes) for file in list_inputs([place.url])]
        names = ("a", "b/c.txt", "b/d", "part-0")
        assert found == [(f"{place.url}/{name}", len(name)) for name in names]
        assert list_inputs([f"{place.url}/*/*.txt"]) == [InputFile(f"{place.url}/b/c.txt", 7)]
        with pytest.raises(BadInput, match=f"cannot read {place.url}/nothing: No such file"):
            list_inputs([f"{place.url}/nothing"])

    def test_what_a_job_has_written_to_outputs_by_name_is_an_input_by_itself(self, place):
        place.put("out/_SUCCESS", b'{"parts": [], "outputs": {"errors": []}}')
        for name in ("part-0", "errors/part-0", "more/part-0"):
            place.put(f"out/{name}", b"x")
        at = f"{place.url}/out"
        for url in (place.url, at, f"{place.url}/o*"):
            assert [file.path for file in list_inputs([url])] == [
                f"{at}/more/part-0",
                f"{at}/part-0",
            ]
        assert [file.path for file in list_inputs([f"{at}/errors"])] == [f"{at}/errors/part-0"]

    def test_files_are_found_by_a_listing_of_each_directory(self, place, monkeypatch):
        for number in range(60):
            place.put(f"{number % 4}/{number}", b"x")
        asked = place.count(monkeypatch)
        assert len(list_inputs([place.url])) == 60
        assert sum(asked().values()) <= 4 * 2 + 4, asked()

    def test_each_job_sees_what_is_there_by_then(self, place):
        def listed():
            urls = (place.url, f"{place.url}/*", f"{place.url}/a/*", f"{place.url}/a/b")
            return [[file.size_bytes for file in list_inputs([url])] for url in urls]

        place.put("a/b", b"x")
        assert listed() == [[1]] * 4
        place.put("a/b", b"xx")
        place.put("a/c", b"x")
        assert listed() == [[2, 1]] * 3 + [[2]]

    @pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
    def test_files_are_read_by_ranges_or_as_they_are_compressed(self, place, monkeypatch, suffix):
        monkeypatch.setattr(remote, "_REQUEST_BYTES", 20_000)
        compress = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[suffix]
        place.put(f"text{suffix}", compress(TEXT))
        size = len(compress(TEXT))
        lines, splits = lines_of(f"{place.url}/text{suffix}", size // 3 + 1)
        assert Counter(lines) == Counter(TEXT.splitlines())
        assert splits == (1 if suffix == ".gz" else 3)
