"""Pairs that go to an output by name, and what these outputs are called.

What is here costs nothing to import; the files are written by `outputs`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

#: Names that outputs may have. None of them is that of a part, or of what is not for readers.
OUTPUT_NAME = re.compile(r"(?!part-[0-9])[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
#: Counters of an output by name, before "of" and its name.
RECORDS = "output records"
BYTES = "output bytes"


class To(NamedTuple):
    """A pair for an output by name; or many, if the key is `Columns`. Made by ``pytxmr.to``."""

    output: str
    key: Any
    value: Any

    def __repr__(self) -> str:
        return f"pytxmr.to({self.output!r}, {self.key!r}, {self.value!r})"


def beside(path: str, output: str) -> str:
    """Where an attempt that writes to ``path`` writes what goes to an output by name."""
    return f"{path}@{output}"
