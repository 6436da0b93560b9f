"""No input is an input like any other: the job succeeds, with parts that are empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import WORDCOUNT, Cluster, Site


def empty_inputs(directory: Path) -> list[str]:
    (directory / "empty.txt").touch()
    (directory / "empty").mkdir()
    (directory / "hidden").mkdir()
    (directory / "hidden" / "_SUCCESS").write_text("not input\n")
    return ["empty.txt", "empty", "hidden"]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["file", "directory", "hidden files"])
def test_empty_input_gives_empty_parts(site: Site, which: int) -> None:
    done = site.run(WORDCOUNT, empty_inputs(site.directory)[which], "--reducers", 3)
    assert done.status == 0
    assert site.parts() == [b"", b"", b""]
    assert "0 maps, 3 reduces" in done.out


@pytest.mark.daemons
def test_empty_input_gives_empty_parts_on_a_cluster(site: Site, cluster: Cluster) -> None:
    site.env |= cluster.client_env
    inputs = empty_inputs(site.directory)
    done = site.pytxmr("run", WORDCOUNT, *inputs, "-o", "out", "--reducers", 3)
    assert done.status == 0
    assert site.parts() == [b"", b"", b""]
    assert cluster.jobs_on_disk() == []
