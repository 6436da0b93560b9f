"""What a key's type and value mean for its group, its part and its place there."""

from __future__ import annotations

from processes import Site

KEYS = """\
import ast

def mapper(key, value):
    yield ast.literal_eval(value), 1

def reducer(key, values):
    yield repr(key), sum(values)
"""
# In natural order; one a line, so that a reducer's repr of it is the line again.
ORDERED = [
    "None", "-3", "-2.5", "0", "2", "7.5", "10", "100", "1e+300",
    "''", "'10'", "'2'", "'Z'", "'a'", "'a b'", "'é'",
    "b''", "b'a'", "b'\\xff'",
    "()", "(0, 'b')", "(1,)", "(1, 'a')", "(2, 'a')", "(10, 'a')", "('a', None)",
]  # fmt: skip


def counted(site: Site, lines: list[str], output: str, *words: object) -> list[bytes]:
    """The parts of a count of the keys that the lines show."""
    site.write("in.txt", "".join(f"{line}\n" for line in lines))
    done = site.run(site.write("job.py", KEYS), "in.txt", *words, output=output)
    assert done.status == 0, done.err
    return site.parts(output)


def test_parts_are_the_same_bytes_whatever_the_hash_seed(site: Site) -> None:
    outputs = []
    for seed in ("0", "1", "4294967295"):
        site.env["PYTHONHASHSEED"] = seed
        words = ["--reducers", 3, "--split-size", 60]
        outputs.append(counted(site, ORDERED * 2, f"out{seed}", *words))
    assert outputs[0] == outputs[1] == outputs[2]
    assert all(outputs[0])
    lines = b"".join(outputs[0]).decode().splitlines()
    assert sorted(lines) == sorted(f"{key}\t2" for key in ORDERED)


def test_keys_come_in_natural_order_and_by_type_when_they_are_mixed(site: Site) -> None:
    (part,) = counted(site, ORDERED[::-1], "out", "--reducers", 1, "--split-size", 40)
    assert part.decode().splitlines() == [f"{key}\t1" for key in ORDERED]


def test_whole_numbers_are_ordered_as_numbers(site: Site) -> None:
    numbers = [str(number) for number in range(-20, 120)]
    (part,) = counted(site, sorted(numbers), "out", "--reducers", 1, "--split-size", 100)
    assert part.decode().splitlines() == [f"{number}\t1" for number in numbers]


def test_keys_that_are_equal_are_one_group_whatever_their_type(site: Site) -> None:
    lines = ["1", "True", "1.0", "0", "False", "-0.0", "(1, 2)", "(1.0, 2)", "(True, 2.0)"]
    parts = counted(site, lines, "out", "--reducers", 5, "--split-size", 3)
    groups = [line.split("\t") for line in b"".join(parts).decode().splitlines()]
    assert [count for _, count in groups] == ["3", "3", "3"]
