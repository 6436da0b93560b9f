"""What the user names becomes files, and files become splits that tile them."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import os
import random
import socket
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytxmr.errors import BadInput
from pytxmr.model import FileRange, InputSplit
from pytxmr.records.readers import line_blocks, split_lines
from pytxmr.storage import inputs
from pytxmr.storage.inputs import (
    CutWhereItMay,
    InputFile,
    cut_at,
    even_split_bytes,
    list_inputs,
    plan_kept_splits,
    plan_splits,
)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A function that makes files, each with its own name as content, and gives the directory."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return tmp_path

    return make


def listed(*paths):
    return [file.path for file in list_inputs(paths)]


# ---- which files


def test_a_file_is_itself_with_its_size(tree):
    directory = tree("a.txt")
    assert list_inputs([f"{directory}/a.txt"]) == [InputFile(f"{directory}/a.txt", 5)]


def test_a_directory_is_the_files_in_it_and_below_in_order_of_names(tree):
    tree("in/b", "in/a/2", "in/a/1", "in/c")
    assert listed("in") == ["in/a/1", "in/a/2", "in/b", "in/c"]


def test_what_is_hidden_or_begins_with_an_underscore_is_not_taken_from_a_directory(tree):
    tree("in/a", "in/.hidden", "in/_SUCCESS", "in/_temporary/x", "in/.git/x", "in/b/_x", "in/b/y")
    assert listed("in") == ["in/a", "in/b/y"]


def test_what_is_named_is_taken_however_it_is_called(tree):
    tree("in/_a", "in/.b", "_in/c")
    assert listed("in/_a", "in/.b", "_in") == ["in/_a", "in/.b", "_in/c"]


def test_paths_keep_their_order_and_may_come_twice(tree):
    tree("a", "b", "in/c")
    assert listed("b", "in", "a", "b") == ["b", "in/c", "a", "b"]


def test_a_glob_is_what_matches_in_order_of_names(tree):
    tree("a2", "a1", "b", "in/a3")
    assert listed("a*") == ["a1", "a2"]
    assert listed("[ab]?") == ["a1", "a2"]
    assert listed("*/a*") == ["in/a3"]


def test_a_glob_that_matches_a_directory_takes_the_files_in_it(tree):
    tree("2024-01/x", "2024-02/x", "2024-02/_x", "2024.txt", "2025-01/x")
    assert listed("2024*") == ["2024-01/x", "2024-02/x", "2024.txt"]


def test_a_double_star_takes_each_file_at_any_depth_once(tree):
    tree("in/a", "in/b/c", "in/b/d/e.txt", "in/b/d/.f.txt", "in/_g/h.txt")
    assert listed("in/**") == ["in/a", "in/b/c", "in/b/d/e.txt"]
    assert listed("in/**/*.txt") == ["in/b/d/e.txt"]
    assert listed("in/**/[bd]") == ["in/b/c", "in/b/d/e.txt"]


def test_a_glob_takes_an_underscore_only_by_an_underscore_like_a_dot_by_a_dot(tree):
    tree("out/part-00000", "out/_SUCCESS", "out/_logs/x", "out/.x", "_old/part-00000")
    assert listed("out/*") == ["out/part-00000"]
    assert listed("out/_S*") == ["out/_SUCCESS"]
    assert listed("out/_l*/*") == ["out/_logs/x"]
    assert listed("out/.*") == ["out/.x"]
    assert listed("_old/*") == ["_old/part-00000"]
    with pytest.raises(BadInput, match=r"no file matches \?SUCCESS"):
        listed("?SUCCESS")


def test_a_name_that_looks_like_a_glob_but_is_there_is_that_file(tree):
    tree("a[1].txt", "a1.txt", "b*")
    assert listed("a[1].txt") == ["a[1].txt"]
    assert listed("b*") == ["b*"]


def test_links_are_followed(tree):
    directory = tree("real/a")
    os.symlink(directory / "real", directory / "link")
    os.symlink(directory / "real/a", directory / "b")
    assert listed("link", "b") == ["link/a", "b"]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ({"in/a/back": "."}, "cannot read in/a/back: the link leads back to {}/in/a"),
        ({"in/a/back": ".."}, "cannot read in/a/back: the link leads back to {}/in"),
        (
            {"in/a/there": "../../other", "other/back": "../in"},
            "cannot read in/a/there/back: the link leads back to {}/in",
        ),
        ({"in/a/itself": "itself"}, "cannot read in/a/itself: Too many levels of symbolic links"),
    ],
)
def test_links_that_lead_nowhere_else_are_refused(tree, links, message):
    directory = tree("in/a/b", "other/c")
    for link, target in links.items():
        os.symlink(target, directory / link)
    with pytest.raises(BadInput) as caught:
        listed("in")
    assert caught.value.message == message.format(os.path.realpath(directory))


def test_links_that_a_double_star_would_follow_for_ever_are_refused(tree):
    directory = tree("in/a/b.txt")
    os.symlink("..", directory / "in/a/back")
    for pattern in ("in/**/*.txt", "**/b.txt", f"{directory}/**/b.txt"):
        with pytest.raises(BadInput, match=r"cannot read .*back.*: the link leads back to /.*/in"):
            listed(pattern)
    assert listed("in/*/b.txt") == ["in/a/b.txt"]


def test_a_directory_that_two_links_lead_to_is_read_by_both(tree):
    directory = tree("real/a", "in/b")
    os.symlink("../real", directory / "in/x")
    os.symlink("../real", directory / "in/y")
    assert listed("in") == ["in/b", "in/x/a", "in/y/a"]
    assert listed("in/**/a") == ["in/x/a", "in/y/a"]


def test_an_empty_directory_and_an_empty_file_are_no_error(tree):
    directory = tree()
    (directory / "in").mkdir()
    (directory / "empty").touch()
    assert list_inputs(["in", "empty"]) == [InputFile("empty", 0)]
    assert list_inputs([]) == []


# ---- what is refused


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "cannot read nowhere: No such file or directory"),
        ("a/b", "cannot read a/b: Not a directory"),
        ("no*", r"no file matches no\*"),
        ("fifo", "cannot read fifo: not a file; name - to have standard input read"),
        ("in", "cannot read in/socket: not a file"),
        ("/dev/null", "cannot read /dev/null: not a file"),
        ("dangling", "cannot read dangling: No such file or directory"),
        ("loop", "cannot read loop: Too many levels of symbolic links"),
        ("a\0b", r"cannot read 'a\\x00b': rename it"),
        ("\udcff", r"cannot read '\\udcff': rename it"),
        ("\ud800", r"cannot read '\\ud800': rename it"),
        ("", "cannot read : No such file or directory"),
        ("x" * 300, "File name too long"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_cannot_be_read_is_refused_by_its_name(tree, path, message):
    directory = tree("a", "in/a")
    os.mkfifo(directory / "fifo")
    os.symlink("nothing", directory / "dangling")
    os.symlink("loop", directory / "loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("in/socket")
        with pytest.raises(BadInput, match=message):
            list_inputs(["a", path])


def test_a_file_in_a_directory_whose_name_is_not_utf8_is_refused(tree):
    directory = tree("in/a")
    open(os.fsencode(directory) + b"/in/\xff", "w").close()
    with pytest.raises(BadInput, match=r"cannot read 'in/\\udcff'"):
        list_inputs(["in"])


def test_what_may_not_be_opened_is_refused_before_anything_runs(tree, monkeypatch):
    directory = tree("in/secret", "in/closed/a")
    if os.geteuid() == 0:  # to whom no file is closed
        forbid(monkeypatch, "open", "in/secret")
        forbid(monkeypatch, "scandir", "in/closed")
    else:
        (directory / "in/secret").chmod(0)
        (directory / "in/closed").chmod(0)
    with pytest.raises(BadInput, match="cannot read in/secret: Permission denied"):
        list_inputs(["in/secret"])
    with pytest.raises(BadInput, match="cannot read in/closed: Permission denied"):
        list_inputs(["in"])
    if os.geteuid() != 0:
        (directory / "in/closed").chmod(0o700)


def forbid(monkeypatch, function, path):
    real = getattr(os, function)

    def forbidding(name, *args):
        if name == path:
            raise PermissionError(13, "Permission denied", name)
        return real(name, *args)

    monkeypatch.setattr(inputs.os, function, forbidding)


# ---- splits

sizes = st.lists(st.integers(0, 40), max_size=12)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(sizes, st.integers(1, 50), st.integers(1, 4))
def test_splits_tile_every_file_in_order_and_are_no_larger_than_asked(sizes, split_bytes, most):
    files = [InputFile(f"f{number}", size) for number, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "MOST_FILES_PER_SPLIT", most)
        splits = plan_splits(files, split_bytes)
    ranges = [part for split in splits for part in split.ranges]
    tiled = [(file.path, byte) for file in files for byte in range(file.size_bytes)]
    assert [(part.path, byte) for part in ranges for byte in range(part.start, part.end)] == tiled
    assert all(part.start < part.end for part in ranges)
    assert all(0 < split.size_bytes <= split_bytes for split in splits)
    assert all(len(split.ranges) <= most for split in splits)
    for split in splits:
        if len(split.ranges) > 1:
            whole = {file.path: file.size_bytes for file in files}
            assert all((part.start, part.end) == (0, whole[part.path]) for part in split.ranges)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 50), st.data())
def test_kept_splits_tile_every_file_and_a_change_of_one_leaves_most_as_they_were(
    sizes, split_bytes, data
):
    files = [InputFile(f"d/f{number}", size) for number, size in enumerate(sizes)]
    changed = data.draw(st.integers(0, len(files) - 1))
    alone = data.draw(st.sampled_from([0, 100]))

    def planned(files):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inputs, "MOST_ALONE", alone)
            patch.setattr(inputs, "_GROUPED", 4)
            return plan_kept_splits(files, split_bytes, cut_at(split_bytes))

    splits = planned(files)
    ranges = [part for split in splits for part in split.ranges]
    tiled = [(file.path, byte) for file in files for byte in range(file.size_bytes)]
    assert [(part.path, byte) for part in ranges for byte in range(part.start, part.end)] == tiled
    assert all(0 < split.size_bytes <= split_bytes for split in splits)
    if alone:
        assert all(len(split.ranges) == 1 for split in splits)
        grown = InputFile(files[changed].path, files[changed].size_bytes + 7)
        lost = set(splits) - set(planned([*files[:changed], grown, *files[changed + 1 :]]))
        assert len(lost) <= 1  # the last piece of it
    removed = planned(files[:changed] + files[changed + 1 :])
    touched = [split for split in splits if split not in removed]
    names = {part.path for split in touched for part in split.ranges}
    near = {file.path for file in files[max(0, changed - 16) : changed + 16]}
    assert names <= ({files[changed].path} if alone else near)


def test_many_small_files_are_grouped_by_their_names_for_a_job_that_keeps_results():
    files = [InputFile(f"logs/{number:05}.txt", 100) for number in range(10_000)]
    splits = plan_kept_splits(files, 16 << 20, cut_at(16 << 20))
    assert 100 < len(splits) < 250
    added = [*files[:5000], InputFile("logs/04999x.txt", 100), *files[5000:]]
    assert len(set(plan_kept_splits(added, 16 << 20, cut_at(16 << 20))) - set(splits)) <= 2
    with pytest.raises(BadInput, match="more than 100000 map tasks"):
        plan_kept_splits(files, 1, cut_at(1))


@pytest.mark.parametrize("size", range(1, 30))
def test_a_file_is_cut_evenly_into_as_few_pieces_as_do(size):
    for split_bytes in range(1, size + 2):
        splits = plan_splits([InputFile("f", size)], split_bytes)
        assert len(splits) == -(-size // split_bytes)
        lengths = [split.size_bytes for split in splits]
        assert max(lengths) - min(lengths) <= 1


def test_small_files_share_a_split_as_long_as_they_fit():
    files = [
        InputFile(name, size) for name, size in zip("abcdef", (4, 6, 1, 30, 5, 5), strict=True)
    ]
    assert plan_splits(files, 10) == [
        InputSplit((FileRange("a", 0, 4), FileRange("b", 0, 6))),
        InputSplit((FileRange("c", 0, 1),)),
        InputSplit((FileRange("d", 0, 10),)),
        InputSplit((FileRange("d", 10, 20),)),
        InputSplit((FileRange("d", 20, 30),)),
        InputSplit((FileRange("e", 0, 5), FileRange("f", 0, 5))),
    ]


def test_no_more_than_five_thousand_files_share_a_split():
    splits = plan_splits([InputFile(f"f{number}", 1) for number in range(12_500)], 1 << 20)
    assert [len(split.ranges) for split in splits] == [5000, 5000, 2500]


@pytest.mark.parametrize("sizes", [[], [0], [0, 0]])
def test_empty_input_has_no_splits(sizes):
    assert plan_splits([InputFile("f", size) for size in sizes], 10) == []


def test_too_many_splits_are_refused_whatever_they_are_made_of(monkeypatch):
    monkeypatch.setattr(inputs, "MOST_SPLITS", 5)
    for sizes in itertools.product(range(4), repeat=7):
        files = [InputFile(f"f{number}", size) for number, size in enumerate(sizes)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inputs, "MOST_SPLITS", 1000)
            splits = plan_splits(files, 2)
        if len(splits) <= 5:
            assert plan_splits(files, 2) == splits
        else:
            with pytest.raises(BadInput, match="give a larger --split-size"):
                plan_splits(files, 2)


def test_a_split_size_that_is_a_mistake_is_refused_without_listing_its_splits():
    with pytest.raises(BadInput, match="huge: splits of 1 bytes make more than 100000 map tasks"):
        plan_splits([InputFile("huge", 1 << 50)], 1)


def test_a_job_that_names_no_split_size_has_its_maps_in_whole_rounds_of_the_workers():
    for workers in (1, 3, 8):
        for total in (1 << 24, 100 << 20, (1 << 30) + 1):
            split_bytes = even_split_bytes(total, workers)
            assert split_bytes <= inputs.SPLIT_BYTES
            assert len(plan_splits([InputFile("f", total)], split_bytes)) % workers == 0
    assert even_split_bytes(0, 4) == even_split_bytes(1000, 4) == inputs.FEWEST_SPLIT_BYTES
    assert even_split_bytes(1 << 20, 0) == 1 << 20


# ---- files that are not to be cut everywhere


def test_what_is_found_is_not_opened_and_each_directory_is_listed_once(tree, monkeypatch):
    tree(*(f"in/{n % 7}/{n}.txt" for n in range(300)))
    calls = Counter()

    def counting(name):
        real = getattr(os, name)

        def call(*args, **options):
            calls[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(inputs.os, name, call)

    for name in ("open", "stat", "lstat", "scandir"):
        counting(name)
    files = list_inputs(["in"])
    assert len(plan_splits(files, 1 << 20, CutWhereItMay())) == 1
    assert calls["scandir"] == 8
    assert calls["open"] == 0
    assert calls["stat"] + calls["lstat"] < 8
    calls.clear()
    assert len(list_inputs(["in/*/*.txt"])) == 300
    assert calls["scandir"] < 3 * 8
    assert calls["open"] == 0
    assert calls["stat"] < 300 + 3 * 8


def test_a_file_that_is_planned_takes_some_hundred_bytes(tree):
    """So that 100,000 take less than a worker does: the plan, and what it is made of by turns."""
    directory = tree()
    (directory / "in").mkdir()
    count = 2000
    for number in range(count):
        (directory / "in" / f"part-{number:09}.txt").write_bytes(b"x")
    path = str(directory / "in")
    list_inputs([path])  # imports and caches
    tracemalloc.start()
    try:
        splits = plan_splits(list_inputs([path]), 1 << 20, CutWhereItMay())
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(split.ranges) for split in splits) == count
    assert kept / count < 400
    assert peak / count < 800


COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["in{}", "in.txt"])
def test_large_files_that_are_compressed_are_cut_only_if_they_can_be(tree, suffix, name):
    path = str(tree() / name.format(suffix))
    content = COMPRESS[suffix](random.Random(1).randbytes(1000))
    with open(path, "wb") as file:
        file.write(content)
    cut = CutWhereItMay()
    splits = plan_splits(list_inputs([path]), 500, cut)
    assert [(len(split.ranges), split.ranges[0].start) for split in splits][0] == (1, 0)
    assert (len(splits) > 2) == (suffix == ".bz2")
    assert cut.whole == (suffix != ".bz2")
    assert sum(split.size_bytes for split in splits) == len(content)


@pytest.mark.parametrize("kind", ["lz4", "zstd"])
def test_large_files_of_frames_are_cut_where_frames_begin(tree, kind):
    if kind == "lz4":
        compress = pytest.importorskip("lz4.frame").compress
    else:
        compress = pytest.importorskip("zstandard").ZstdCompressor().compress
    frames = [compress(random.Random(n).randbytes(100)) for n in range(9)]
    path = str(tree() / "in")
    starts = [0, *itertools.accumulate(map(len, frames))]
    with open(path, "wb") as file:
        file.write(b"".join(frames))
    size = starts[-1]
    for split_bytes in (1, 90, 250, 500, size - 1):
        splits = plan_splits(list_inputs([path]), split_bytes, CutWhereItMay())
        ranges = [split.ranges[0] for split in splits]
        assert [part.end for part in ranges] == [part.start for part in ranges[1:]] + [size]
        assert ranges[0].start == 0
        assert set(starts).issuperset(part.start for part in ranges)
        assert len(ranges) == min(9, -(-size // split_bytes))
    cut = CutWhereItMay()
    with open(path, "wb") as file:
        file.write(frames[0])
    assert len(plan_splits(list_inputs([path]), 50, cut)) == cut.whole == 1


def test_a_file_that_is_to_be_cut_is_looked_into_before_anything_runs(tree, monkeypatch):
    tree("text.gz", "gone")
    with pytest.raises(BadInput, match=r"cannot read text.gz: it is named as gzip"):
        plan_splits(list_inputs(["text.gz"]), 2, CutWhereItMay())
    with pytest.raises(BadInput, match=r"cannot read gone.txt: No such file"):
        plan_splits([InputFile("gone.txt", 10)], 2, CutWhereItMay())


# ---- splits, read

AWKWARD = (
    b"a line\n\n\r\nends in CRLF\r\nlone \r inside\nnot UTF-8 \xff\xfe\x80\n"
    + b"a line longer than all others " * 3
    + b"\n\n\n\x00\x0c\x1c\xc2\x85\nno newline at the end"
)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"], ids=ascii)
def test_splits_of_every_size_give_exactly_the_lines_of_the_files(tmp_path, end):
    contents = {"a": AWKWARD + end, "b": b"short\n", "c": b"", "d": b"x", "e": AWKWARD}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = list_inputs([str(tmp_path)])
    expected = [
        (file.path, line.removesuffix(b"\r") if ended else line)
        for file in files
        for line, ended in lines_of(contents[os.path.basename(file.path)])
    ]
    for split_bytes in range(1, len(AWKWARD) * 2 + 20):
        found = [
            (part.path, line)
            for split in plan_splits(files, split_bytes)
            for part in split.ranges
            for offset, data in line_blocks(part)
            for line in split_lines(offset, data)[1]
        ]
        assert found == expected, split_bytes


def lines_of(content):
    """Each line without its newline, and whether it had one."""
    *whole, last = content.split(b"\n")
    return [(line, True) for line in whole] + ([(last, False)] if last else [])
