"""What a client checks and prepares before a job is submitted."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytxmr.cli.commands import _job_options
from pytxmr.cli.options import build_parser
from pytxmr.client import JobOptions, make_spec, make_specs
from pytxmr.errors import BadJob, PeerBroke
from pytxmr.model import JobSpec
from pytxmr.records.codec import unpack_column
from pytxmr.storage.output import OutputDirectory
from pytxmr.submission import plan_job

SORT = """
import pytxmr
partitioner = pytxmr.RangePartitioner()
def mapper(key, value):
    {body}
def reducer(key, values):
    yield key, None
"""


def sampled(tmp_path: Path, body: str, text: str) -> list:
    (tmp_path / "job.py").write_text(SORT.format(body=body))
    (tmp_path / "input").write_text(text)
    spec = make_spec(
        JobOptions(str(tmp_path / "job.py"), (str(tmp_path / "input"),), str(tmp_path / "out"))
    )
    assert spec.key_sample is not None
    return unpack_column(spec.key_sample)


def test_a_range_partitioner_gets_sorted_keys_from_all_over_the_input(tmp_path: Path) -> None:
    lines = [f"{number:06d}" for number in range(100_000)]
    keys = sampled(tmp_path, "yield value, 1", "\n".join(lines))
    assert keys == sorted(keys)
    assert set(keys) <= set(lines)
    tenths = [keys[len(keys) * tenth // 10] for tenth in range(10)]
    for tenth, key in enumerate(tenths):
        assert abs(int(key) - tenth * 10_000) < 3_000


def test_what_is_wrong_with_the_mapper_is_left_for_the_job_to_tell(tmp_path: Path) -> None:
    for number, body in enumerate(
        [
            "raise KeyError(value)",
            "yield value",
            "yield [value], 1",
            "raise SystemExit",
            "return None",
        ]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        assert sampled(place, body, "ab\ncd\n") == []


def test_a_job_that_partitions_otherwise_is_not_sampled(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(SORT.format(body="yield 1, 1").replace("partitioner", "other"))
    (tmp_path / "input").write_text("a\n")
    options = JobOptions(str(tmp_path / "job.py"), (str(tmp_path / "input"),), str(tmp_path / "o"))
    assert make_spec(options).key_sample is None


def made(tmp_path: Path, **options: Any) -> JobSpec:
    (tmp_path / "job.py").write_text(SORT.format(body="yield 1, 1"))
    (tmp_path / "input").write_text("a\n")
    job, given = str(tmp_path / "job.py"), (str(tmp_path / "input"),)
    return make_spec(JobOptions(job, given, str(tmp_path / "o"), **options))


COUNT = """
from pytxmr import folds, pipeline
def mapper(key, line):
    yield line, 1
"""
COMBINING = {
    "combiner = reducer = folds.sum": [True],
    "reducer = folds.sum": [True],
    "def reducer(key, values):\n    yield key, 1\ncombiner = reducer": [True],
    "def reducer(key, values):\n    yield key, 1": [False],
    "reducer = folds.collect": [False],
    "": [False],
    "output = pipeline.input().count().sort_by(str)": [True, False],
}


@pytest.mark.parametrize("rest", COMBINING)
def test_a_spec_says_whether_the_job_combines(tmp_path: Path, rest: str) -> None:
    job = tmp_path / "job.py"
    source = COUNT.partition("def")[0] if "output" in rest else COUNT
    job.write_text(source + rest + "\n")
    (tmp_path / "input").write_text("a\n")
    options = JobOptions(str(job), (str(tmp_path / "input"),), str(tmp_path / "out"))
    specs = [JobSpec.from_plain(spec.to_plain()) for spec in make_specs(options)]
    assert [spec.combines for spec in specs] == COMBINING[rest]


@pytest.mark.parametrize(
    ("combines", "machines", "split_bytes", "maps"),
    [(True, 1, None, 2), (True, 2, None, 6), (False, 1, None, 6), (True, 1, 100 << 20, 3)],
)
def test_a_job_that_combines_has_larger_splits_on_one_machine(
    tmp_path: Path, combines: bool, machines: int, split_bytes: int | None, maps: int
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(250 << 20)
    spec = replace(made(tmp_path), inputs=(str(large),), combines=combines, split_bytes=split_bytes)
    output = OutputDirectory(str(tmp_path / "out"), "owner")
    splits, _ = plan_job(spec, output, 2, machines)
    assert len(splits) == maps


def test_a_batch_mapper_is_sampled_as_any(tmp_path: Path) -> None:
    batched = SORT.replace("def mapper(key, value)", "@pytxmr.batch\ndef mapper(offset, lines)")
    (tmp_path / "job.py").write_text(batched.format(body="yield pytxmr.columns(lines)"))
    (tmp_path / "input").write_text("".join(f"{number:04}\n" for number in range(5000)))
    options = JobOptions(str(tmp_path / "job.py"), (str(tmp_path / "input"),), str(tmp_path / "o"))
    keys = unpack_column(make_spec(options).key_sample)
    assert keys == sorted(keys)
    for tenth in range(10):
        assert abs(int(keys[len(keys) * tenth // 10]) - 500 * tenth) < 150


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_a_spec_travels_as_plain_values(tmp_path: Path, codec: str) -> None:
    spec = made(tmp_path, memory_bytes=123, task_timeout=7, codec=codec, speculate=False)
    assert (spec.memory_bytes, spec.task_timeout, spec.codec) == (123, 7, codec)
    assert not spec.speculate
    assert JobSpec.from_plain(spec.to_plain()) == spec


def test_a_spec_leaves_memory_to_the_trackers_and_compresses_nothing(tmp_path: Path) -> None:
    spec = made(tmp_path)
    assert (spec.memory_bytes, spec.codec) == (None, "none")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_bytes", 0),
        ("memory_bytes", -1),
        ("memory_bytes", True),
        ("memory_bytes", "64MiB"),
        ("task_timeout", -1),
        ("task_timeout", 1.5),
        ("task_timeout", None),
        ("codec", "gzip"),
        ("codec", ""),
        ("codec", None),
        ("compress", "zip"),
        ("compress", None),
    ],
)
def test_a_spec_with_a_field_that_cannot_be_is_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    with pytest.raises(PeerBroke):
        JobSpec.from_plain(made(tmp_path).to_plain() | {field: value})


@pytest.mark.parametrize(("codec", "module"), [("lz4", "lz4.block"), ("zstd", "zstandard")])
def test_a_codec_that_is_not_installed_is_refused_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(BadJob) as caught:
        made(tmp_path, codec=codec)
    assert caught.value.message == (
        f"--codec {codec} needs a library: pip install 'pytxmr[{codec}]'"
    )
    assert made(tmp_path).codec == "none"


@pytest.mark.parametrize(("kind", "module"), [("lz4", "lz4.block"), ("zstd", "zstandard")])
def test_a_compression_that_is_not_installed_is_refused_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(BadJob, match=rf"--compress {kind} .* pip install 'pytxmr\[{kind}\]'"):
        made(tmp_path, compress=kind)
    assert made(tmp_path, compress="gzip").compress == "gzip"


def test_a_writer_that_compresses_by_itself_refuses_another_compression(tmp_path: Path) -> None:
    names = {"writer": "parquet"}
    with pytest.raises(BadJob, match=r"--compress gzip: writers\.parquet compresses by itself"):
        made(tmp_path, compress="gzip", names=names)
    assert made(tmp_path, names=names).compress == "none"


@pytest.mark.parametrize("command", ["run", "submit"])
def test_speculation_can_be_turned_off(command: str) -> None:
    line = [command, "job.py", "input", "--output", "out"]
    assert _job_options(build_parser().parse_args(line)).speculate
    assert not _job_options(build_parser().parse_args([*line, "--no-speculation"])).speculate
