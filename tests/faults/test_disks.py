"""Disks that are full: real ones, of one MiB; where one may mount these."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty import Faulty, Work
from processes import Site

pytestmark = pytest.mark.daemons

FULL = "No space left on device"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory in which there is room for 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("to mount a small disk one has to be root")
    directory = tmp_path / "small"
    directory.mkdir()
    words = ["-t", "tmpfs", "-o", "size=1m", "pytxmr-test", directory]
    try:
        made = subprocess.run(["mount", *words], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount(8) here")
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def on_small_disk(cluster: Faulty, name: str, small_disk: Path) -> None:
    """Have the tracker of this name, which is yet to start, keep its files there."""
    cluster.work_dir(name).symlink_to(small_disk)


def test_what_a_disk_has_no_room_for_is_mapped_fetched_and_reduced_elsewhere(
    site: Site, small_disk: Path
) -> None:
    cluster = Faulty(site)
    work = Work(site, lines=16000, width=1000)
    on_small_disk(cluster, "one", small_disk)
    cluster.start(one="", two="")
    running = work.start(maps=8, reducers=2)
    work.is_done(running, failed=True)
    assert cluster.jobs_on_disk() == []
    cluster.close()


def test_a_job_for_whose_spills_there_is_no_room_fails_and_says_so(
    site: Site, small_disk: Path
) -> None:
    cluster, work = Faulty(site), Work(site, lines=4000, width=1000)
    on_small_disk(cluster, "one", small_disk)
    cluster.start(one="")
    done = work.run(maps=1)
    assert done.status == 1
    assert re.search(rf"Map001 failed 4 times: \S+: {FULL}$", done.err, re.M), done.err
    assert "Traceback" not in done.err
    assert cluster.jobs_on_disk() == []
    assert not (site.directory / "out").exists()
    cluster.close()


def test_a_job_for_whose_output_there_is_no_room_fails_and_says_so(
    site: Site, small_disk: Path
) -> None:
    cluster, work = Faulty(site), Work(site, lines=4000, width=1000)
    cluster.start(one="")
    done = work.run(maps=2, output=f"{small_disk}/out")
    assert done.status == 1
    assert re.search(rf"Reduce\d+ failed 4 times: \S+: {FULL}$", done.err, re.M), done.err
    assert list(small_disk.iterdir()) == []
    cluster.close()
