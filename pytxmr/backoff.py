"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from hashlib import blake2b


def backoff_seconds(pauses: tuple[float, float], failures: int, who: str) -> float:
    """The pause after so many ``failures``: the first of ``pauses``, doubled each time up to the
    second, and of that between half and all, so that many which failed together do not come back
    together.

    Which part it is follows from ``who`` tries and how often it has failed: in a replay, as in a
    test, it is the same again.
    """
    first, longest = pauses
    whole = min(longest, first * 2.0 ** min(failures - 1, 60))
    digest = blake2b(f"{who} {failures}".encode(), digest_size=4).digest()
    return whole * (1 + int.from_bytes(digest) / 2**32) / 2
