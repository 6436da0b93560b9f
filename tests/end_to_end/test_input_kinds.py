"""What can be named as input, through the command itself: every way gives the same counts."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import os
import re
import signal
from collections import Counter

import pytest
from in_process import inline
from processes import BOOK, PYTXMR, WORDCOUNT, Cluster, Process, Site, word_counts

from pytxmr.cli.plan import show_plan
from pytxmr.client import JobOptions

TEXT = BOOK.read_bytes()
COUNTS = Counter(TEXT.decode().lower().split())


def counts(site: Site) -> Counter[str]:
    return word_counts(site.parts())


def test_a_compressed_file_is_counted_like_what_is_in_it(site: Site) -> None:
    path = site.write("book.gz", gzip.compress(TEXT, 1))
    done = inline(site, WORDCOUNT, path, "--split-size", "100KiB")
    assert done.status == 0, done.err
    assert counts(site) == COUNTS
    assert "1 large files cannot be cut, as they are compressed: one map each" in done.out
    assert "1 maps" in done.out


def test_the_plan_says_which_files_are_one_map_each(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix, compress in {"gz": gzip.compress, "bz2": bz2.compress}.items():
        site.write(f"book.{suffix}", compress(TEXT, 1))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(2))
    monkeypatch.chdir(site.directory)
    for name, said in {"gz": "; 1 cannot be cut, as compressed: one map each", "bz2": ""}.items():
        show_plan(JobOptions(str(WORDCOUNT), (f"book.{name}",), ""))
        reads = rf"^  reads     book.{name}: 1 file, [0-9.]+ .iB{said}$"
        assert re.search(reads, capsys.readouterr().out, re.M)


def test_bzip2_is_mapped_by_several_maps(site: Site) -> None:
    path = site.write("book.bz2", bz2.compress(TEXT, 1))
    done = inline(site, WORDCOUNT, path, "--split-size", "200KiB")
    assert done.status == 0, done.err
    assert counts(site) == COUNTS
    assert "cannot be cut" not in done.out
    assert "6 maps" in done.out


def test_a_damaged_file_fails_the_job_at_once_by_its_name_and_offset(site: Site) -> None:
    content = bytearray(gzip.compress(TEXT, 1))
    content[len(content) // 2] ^= 255
    path = site.write("book.gz", bytes(content))
    done = inline(site, WORDCOUNT, path)
    assert done.status == 1
    assert f"at {path}, compressed byte 0" in done.err
    assert f"{path}: what is compressed with gzip from byte 0 on cannot be decomp" in done.err
    assert "Traceback" not in done.err
    assert not (site.directory / "out").exists()


def test_a_file_of_names_stands_for_the_files_it_names(site: Site) -> None:
    half = TEXT.index(b"\n", len(TEXT) // 2) + 1
    (site.directory / "in").mkdir()
    site.write("in/second half", TEXT[half:])
    first = site.write("first.txt", TEXT[:half])
    site.write("names", f"# two files\n\n{first}\r\nin/*\n")
    done = inline(site, WORDCOUNT, "@names")
    assert done.status == 0, done.err
    assert counts(site) == COUNTS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "cannot read the names of the input in 'names': No such file or directory"),
        ("\n# nothing\n", "no file is named in names"),
        ("nowhere\n", "/nowhere: No such file or directory"),
    ],
)
def test_a_file_of_names_that_is_of_no_use_is_told(
    site: Site, names: str | None, message: str
) -> None:
    if names is not None:
        site.write("names", names)
    done = inline(site, WORDCOUNT, "@names")
    assert done.status == 2
    assert message in done.err


def in_shell(site: Site, script: str) -> tuple[int, Process]:
    """A shell command in which ``$PYTXMR`` is the command."""
    site.env["PYTXMR"] = " ".join(PYTXMR)
    process = site.start("sh", "-c", script)
    return process.ended(), process


def test_standard_input_is_an_input_and_leaves_nothing_behind(site: Site) -> None:
    status, process = in_shell(
        site, f"gzip -c {BOOK} | $PYTXMR run {WORDCOUNT} - --output out --workers 2"
    )
    assert status == 0, process.err
    assert counts(site) == COUNTS


def test_names_may_come_from_standard_input(site: Site) -> None:
    status, process = in_shell(site, f"echo {BOOK} | $PYTXMR run {WORDCOUNT} @- -o out --workers 2")
    assert status == 0, process.err
    assert counts(site) == COUNTS


def test_standard_input_can_be_read_only_once(site: Site) -> None:
    for twice in ("- -", "- @-"):
        status, process = in_shell(site, f"$PYTXMR run {WORDCOUNT} {twice} -o out < {BOOK}")
        assert status == 2
        assert "standard input can be read only once" in process.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_while_it_reads_standard_input_leaves_nothing(
    site: Site, number: signal.Signals
) -> None:
    fifo = site.directory / "fifo"
    os.mkfifo(fifo)
    command = [*PYTXMR, "run", WORDCOUNT, "-", "-o", "out", "--workers", "2"]
    process = site.start("sh", "-c", 'exec "$@" < "$0"', fifo, *command)
    with open(fifo, "wb", buffering=0) as stdin:
        # More than a pipe holds: when it is written, the command has begun to read.
        stdin.write(TEXT[: 1 << 18])
        process.send(number)
        assert process.ended() == 128 + number
    assert not (site.directory / "out").exists()


@pytest.mark.daemons
def test_standard_input_is_refused_on_a_cluster(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    for verb in ("run", "submit"):
        done = site.pytxmr(verb, WORDCOUNT, "-", "-o", "out")
        assert done.status == 2
        assert "standard input, -, is only for a job that runs here" in done.err


@pytest.mark.parametrize(
    ("kind", "suffix"), [("gzip", ".gz"), ("bzip2", ".bz2"), ("xz", ".xz"), ("zstd", ".zst")]
)
def test_an_output_that_is_compressed_is_named_so_and_can_be_read(
    site: Site, kind: str, suffix: str
) -> None:
    if kind == "zstd":
        pytest.importorskip("zstandard")
    book = site.write("book.txt", TEXT[: 1 << 18])
    done = inline(site, WORDCOUNT, book, "--compress", kind)
    assert done.status == 0, done.err
    output = site.directory / "out"
    names = [f"part-0000{number}{suffix}" for number in range(2)]
    assert sorted(path.name for path in output.iterdir()) == ["_SUCCESS", *names]
    manifest = json.loads((output / "_SUCCESS").read_text())
    assert [part["name"] for part in manifest["parts"]] == names
    for part in manifest["parts"]:
        data = (output / part["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
    lines = site.write("lines.py", LINES)
    done = inline(site, lines, "out", output="again")
    assert done.status == 0, done.err
    expected = Counter(TEXT[: 1 << 18].decode().lower().split())
    assert word_counts(site.parts("again")) == expected


LINES = """
def mapper(key, value):
    yield value, None

def reducer(key, values):
    yield key, None
"""


def test_a_job_that_fails_leaves_nothing_of_a_compressed_output(site: Site) -> None:
    job = site.write("job.py", LINES + "    1 / 0\n")
    done = inline(site, job, BOOK, "--compress", "gzip")
    assert done.status == 1
    assert not (site.directory / "out").exists()
