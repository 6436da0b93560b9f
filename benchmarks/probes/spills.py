"""What the sending and the receiving probe have in common."""

from __future__ import annotations

from pytxmr.model import MAP, AttemptId, TaskId

JOB = "Job001"
KEY = b"a key that signs requests"
#: Map outputs that are fetched; a partition of each.
MAPS = 8
CHUNK_BYTES = 1 << 17


def attempt(number: int) -> AttemptId:
    return AttemptId(TaskId(MAP, number), 0)
