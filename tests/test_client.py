"""What a client checks and prepares before a job is submitted."""

from pathlib import Path

from pytxmr.client import JobOptions, make_spec
from pytxmr.records.codec import unpack_column

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


def test_a_spec_travels_as_plain_values(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(SORT.format(body="yield 1, 1"))
    (tmp_path / "input").write_text("a\n")
    options = JobOptions(str(tmp_path / "job.py"), (str(tmp_path / "input"),), str(tmp_path / "o"))
    spec = make_spec(options)
    assert type(spec).from_plain(spec.to_plain()) == spec
