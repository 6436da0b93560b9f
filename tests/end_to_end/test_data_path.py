"""Folds, batches, memory and compression, as a user asks for them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import IMPORTED_FROM, Cluster, Finished, Site, word_counts

TEXT = "a b\nbb a\nccc bb a\n" * 50
COUNTS = {word: count * 50 for word, count in {"a": 3, "b": 1, "bb": 2, "ccc": 1}.items()}
FOLD = """\
from pytxmr import folds

def mapper(key, value):
    for word in value.split():
        yield word, 1

reducer = folds.sum
"""
BATCH = """\
from collections import Counter
import pytxmr

@pytxmr.batch("buffer")
def mapper(offset, data):
    yield Counter(data.decode().split())

@pytxmr.batch
def reducer(groups):
    yield pytxmr.columns(groups.keys, map(sum, groups.lists()))
"""
#: Many pairs of few lines: of every line it makes 100, each with a key of its own.
MANY = """\
def mapper(key, value):
    for n in range(100):
        yield f"{value} {n:02}", "some text of a size that compresses well"

def reducer(key, values):
    yield key, sum(1 for _ in values)
"""
LINES = [f"{n:03}" for n in range(400)]
MANY_COUNTED = [f"{line} {n:02}\t1" for line in LINES for n in range(100)]


def summary(done: Finished, name: str) -> tuple[int, int]:
    """The records and bytes that the summary of a job tells of a step."""
    assert done.status == 0, done.err
    found = re.search(rf"^  {name} +([\d,]+) records(?: +([\d,]+) bytes)?$", done.out, re.M)
    return tuple(int((number or "0").replace(",", "")) for number in found.groups())


def many(site: Site, *words: object, output: str = "out") -> Finished:
    """A job with 40,000 pairs in one map, on one reducer; its output is what it should be."""
    site.write("many.txt", "".join(f"{line}\n" for line in LINES))
    job = site.write("many.py", MANY)
    words = (*words, "--split-size", "1MiB", "--reducers", 1)
    done = site.pytxmr("run", job, "many.txt", "--output", output, *words)
    if done.status == 0:
        assert site.parts(output)[0].decode().splitlines() == MANY_COUNTED
    return done


@pytest.mark.parametrize("source", [FOLD, BATCH], ids=["folds", "batches"])
def test_folds_and_batches_count_words(site: Site, source: str) -> None:
    site.write("in.txt", TEXT)
    done = site.run(site.write("job.py", source), "in.txt", "--split-size", 400, "--reducers", 2)
    assert summary(done, "input")[0] == TEXT.count("\n")
    maps = int(re.search(r"(\d+) maps", done.out)[1])
    assert maps > 1
    assert summary(done, "spilled")[0] == maps * len(COUNTS)
    assert word_counts(site.parts()) == Counter(COUNTS)


def test_value_that_a_fold_cannot_take_is_shown_with_its_record(site: Site) -> None:
    site.write("in.txt", TEXT)
    job = site.write("job.py", FOLD.replace("word, 1", "word, 1 if word != 'ccc' else 'x'"))
    done = site.run(job, "in.txt")
    assert done.status == 1
    assert f'File "{job}", line 5, in mapper' in done.err
    assert f"at {site.directory}/in.txt, offset 9, record 'ccc bb a'" in done.err
    assert re.search(r"folds\.sum cannot take the value 'x': TypeError", done.err)


def test_batch_that_raises_is_shown_with_file_and_offset(site: Site) -> None:
    site.write("in.txt", TEXT)
    job = site.write("job.py", BATCH.replace("yield Counter", "raise ValueError('no')\n    yield"))
    done = site.run(job, "in.txt", "--split-size", 400)
    assert done.status == 1
    assert f'File "{job}", line 6, in mapper' in done.err
    assert re.search(rf"^at {site.directory}/in.txt, offset \d+$", done.err, re.M)


def test_what_does_not_fit_into_memory_goes_through_files(site: Site) -> None:
    pairs = len(MANY_COUNTED)
    assert summary(many(site, output="roomy"), "spilled")[0] == pairs
    # Into runs, and once more when these are merged; the last pairs only once, if at all.
    spilled, _ = summary(many(site, "--memory", "32MiB", output="tight"), "spilled")
    assert spilled == 2 * pairs


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_spills_are_smaller_and_say_the_same(site: Site, codec: str) -> None:
    _, plain = summary(many(site, "--codec", "none", output="plain"), "spilled")
    done = many(site, "--codec", codec, "--memory", "32MiB", output="compressed")
    _, compressed = summary(done, "spilled")
    assert 0 < compressed < plain / 4


# ---- what is wrong with the options


def refused(site: Site, *words: object) -> str:
    """What the command said; it must have refused, and made nothing."""
    site.write("in.txt", TEXT)
    job = site.write("job.py", FOLD)
    before = site.listing()
    done = site.run(job, "in.txt", *words)
    assert (done.status, done.out) == (2, ""), done.err
    assert "Traceback" not in done.err
    assert site.listing() == before
    return done.err


def test_unknown_codec_is_answered_with_those_there_are(site: Site) -> None:
    said = refused(site, "--codec", "gzip")
    assert re.search(r"--codec: invalid choice: 'gzip' \(choose from '?none'?, '?lz4", said)


@pytest.mark.parametrize("size", ["0", "64XB", "-1", "lots"])
def test_bad_memory_is_answered_with_good_ones(site: Site, size: str) -> None:
    said = refused(site, f"--memory={size}")
    assert f"{size!r} is no size; say 1000, 64KiB, 32MiB or 1GiB" in said


def without(site: Site, *modules: str) -> None:
    """Let the site's processes find none of the modules."""
    hiding = site.directory / "hiding"
    hiding.mkdir()
    for module in modules:
        (hiding / f"{module}.py").write_text("raise ModuleNotFoundError(__name__)\n")
    site.env["PYTHONPATH"] = os.pathsep.join(map(os.fspath, (hiding, IMPORTED_FROM)))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_codec_that_is_not_installed_is_answered_with_how_to_install_it(
    site: Site, codec: str
) -> None:
    without(site, "lz4", "zstandard")
    said = refused(site, "--codec", codec)
    assert said == f"pytxmr: --codec {codec} needs a library: pip install 'pytxmr[{codec}]'\n"
    # Without it nothing is amiss, as long as it is not asked for.
    assert site.run(site.directory / "job.py", "in.txt").status == 0


# ---- on a cluster


@pytest.mark.daemons
def test_cluster_takes_a_jobs_memory_and_codec(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    words = ("--codec", "zstd", "--memory", "64MiB", "--split-size", 400)
    site.write("many.txt", "".join(f"{line}\n" for line in LINES))
    job = site.write("many.py", MANY)
    done = site.pytxmr("run", job, "many.txt", "-o", "out", *words, "--reducers", 3)
    records, compressed = summary(done, "spilled")
    assert records == len(MANY_COUNTED)
    assert compressed < records * 20
    lines = b"".join(site.parts()).decode().splitlines()
    assert sorted(lines) == MANY_COUNTED
    assert cluster.jobs_on_disk() == []


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of the test's own, whose tracker has little memory, and no lz4."""
    site = Site(tmp_path_factory.mktemp("small"))
    try:
        made = Cluster(site)
        made.start_jobtracker()
        without(site, "lz4")
        made.trackers["small"] = site.twistd(
            "tasktracker", "--kv-listen", "tcp:0:interface=127.0.0.1", "--name", "small",
            "--work-dir", made.work_dir("small"), "--workers", 1, "--memory", "32MiB",
        )  # fmt: skip
        made.joined("small")
        yield made
        made.close()
        site.assert_clean()
    finally:
        site.close()


@pytest.mark.daemons
def test_tasktracker_says_how_much_memory_a_job_has_that_does_not(
    site: Site, small: Cluster
) -> None:
    site.env |= small.client_env
    pairs = len(MANY_COUNTED)
    assert summary(many(site, output="tight"), "spilled")[0] == 2 * pairs
    assert summary(many(site, "--memory", "256MiB", output="roomy"), "spilled")[0] == pairs
    # What is installed here may be missing there: that is told once, and not tried again.
    before = site.listing()
    done = many(site, "--codec", "lz4", output="compressed")
    assert done.status == 1
    assert "lz4 is not installed on this machine: pip install 'pytxmr[lz4]'" in done.err
    assert "Traceback" not in done.err
    assert site.listing() == before
    assert small.jobs_on_disk() == []


@pytest.mark.daemons
@pytest.mark.parametrize("size", ["0", "64XB"])
def test_tasktracker_with_a_bad_memory_does_not_start(site: Site, size: str) -> None:
    process = site.twistd("tasktracker", "--memory", size)
    assert process.ended() == 1
    assert f"{size!r} is no size; say 1000, 64KiB, 32MiB or 1GiB" in process.err + process.out
    assert [path.name for path in Path(site.directory).iterdir()] == ["temporary"]
