"""One key with nearly all of the values holds nobody else up."""

from __future__ import annotations

from processes import PYTXMR, Gate, Site

JOB = """\
def mapper(key, value):
    yield int(value), key

def partitioner(key, partitions):
    return key

def reducer(key, values):
    if key in (0, 5):
        gate({gate!r})
    yield key, sum(1 for _ in values)
"""


def test_the_other_partitions_are_reduced_while_a_large_key_is(site: Site, gate: Gate) -> None:
    site.write("in.txt", "0\n" * 100_000 + "1\n2\n3\n4\n5\n")
    job = site.write("job.py", Gate.SOURCE + JOB.format(gate=str(gate.directory)))
    words = ("in.txt", "--output", "out", "--workers", 2, "--reducers", 6)
    running = site.start(*PYTXMR, "run", job, *words)
    # The reducer of key 0 stays at the gate until that of key 5, the last of all, is there, too:
    # one of the two workers has reduced all in between.
    assert gate.reached() != gate.reached()
    gate.open()
    gate.open()
    assert running.ended() == 0, running.err
    assert site.parts() == [b"0\t100000\n", *(f"{key}\t1\n".encode() for key in range(1, 6))]
