"""A directory with processes for each test of whole jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "end_to_end"))
from processes import Site

pytest.register_assert_rewrite("outputs", "remoteinputs")


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """Afterwards no process and no temporary file may be left."""
    (tmp_path / "site").mkdir()
    made = Site(tmp_path / "site")
    try:
        yield made
        made.assert_clean()
    finally:
        made.close()
