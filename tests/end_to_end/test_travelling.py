"""What travels with a job, on processes that do not know the client's directories."""

from __future__ import annotations

import io
import shutil
import signal
import socket
import tarfile
import venv
from pathlib import Path

import pytest
from in_process import inline
from processes import PYTXMR, Cluster, Gate, Site

JOB = """\
import sys
from lib.text import shout

def mapper(key, value):
    import lazily
    yield lazily.NAME, shout(value)
    yield "places", str([place for place in sys.path if "jobs" in place])

def reducer(key, values):
    from lib import text
    yield key, text.join(sorted(values))
"""
FILES = {
    "job.py": JOB,
    "lazily.py": "NAME = 'lazily'\n",
    "lib/text.py": "shout = str.upper\ndef join(texts): return '+'.join(texts)\n",
}


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def test_jobs_own_modules_come_along(site: Site) -> None:
    site.write("in.txt", "a\nb\n")
    write(site.directory / "jobs", FILES)
    done = site.run(site.directory / "jobs" / "job.py", "in.txt", "--reducers", 1)
    assert done.status == 0, done.err
    assert site.parts() == [b"lazily\tA+B\nplaces\t[]+[]\n"]


def test_packages_of_a_packed_virtual_environment_can_be_imported(site: Site) -> None:
    site.write("in.txt", "a\nb\n")
    venv.create(site.directory / "env")
    (package,) = (site.directory / "env").glob("lib/python3*/site-packages")
    write(package, {"plural/__init__.py": "def of(word):\n    return word + 's'\n"})
    with tarfile.open(site.directory / "env.tar.gz", "w:gz") as archive:
        archive.add(site.directory / "env", ".")
    shutil.rmtree(site.directory / "env")
    job = "import plural\n\ndef mapper(key, value):\n    yield plural.of(value), None\n"
    done = site.run(site.write("job.py", job), "in.txt", "--archive", "env.tar.gz")
    assert done.status == 0, done.err
    assert site.parts() == [b"as\nbs\n"]


def test_jobs_own_modules_come_along_to_a_cluster_and_go_with_the_job(
    cluster: Cluster, tmp_path: Path
) -> None:
    write(tmp_path / "jobs", FILES)
    (tmp_path / "in.txt").write_text("a\nb\n")
    words = [tmp_path / "jobs" / "job.py", tmp_path / "in.txt", "--reducers", 1]
    done = cluster.site.pytxmr("run", *words, "--output", tmp_path / "out")
    assert done.status == 0, done.err
    assert (tmp_path / "out" / "part-00000").read_bytes() == b"lazily\tA+B\nplaces\t[]+[]\n"
    assert cluster.jobs_on_disk() == []


def test_module_that_is_missing_is_refused_before_anything_runs(site: Site) -> None:
    site.write("in.txt", "a\n")
    job = site.write("job.py", "import helpers\n" + JOB)
    site.write("helper.py", "")
    done = inline(site, job, "in.txt")
    assert done.status == 2
    assert "did you mean helper?" in done.err
    assert f'File "{job}", line 1' in done.err
    assert not (site.directory / "out").exists()


def test_module_of_the_working_directory_is_not_taken_for_one_of_the_job(site: Site) -> None:
    site.write("in.txt", "a\n")
    site.write("helpers.py", "")
    write(site.directory / "jobs", FILES | {"job.py": "import helpers\n" + JOB})
    job = site.directory / "jobs" / "job.py"
    done = inline(site, job, "in.txt")
    assert done.status == 2
    assert "No module named 'helpers'" in done.err
    assert inline(site, job, "in.txt", "--py-files", "helpers.py").status == 0


SIDE = """\
import os
import pytxmr

STOP = set(open(pytxmr.side_file("stop")).read().split())
PLACES = pytxmr.side_file("places")

class Words(pytxmr.MapReduce):
    def map(self, key, value):
        for word in value.split():
            if word not in STOP:
                yield word, open(PLACES + "/deep/place.txt").read()

    def reduce(self, key, values):
        yield key, "".join(values)
        os.chdir(PLACES)  # it is this machine's, and the job's
        yield "place", os.getcwd()
"""


def side_files(directory: Path) -> list[object]:
    """Options of the command line."""
    directory.mkdir(exist_ok=True)
    (directory / "stop.txt").write_text("the a")
    with tarfile.open(directory / "places.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("deep/place.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"here"))
    archive = f"{directory / 'places.tar.gz'}#places"
    return ["--file", f"{directory / 'stop.txt'}#stop", "--archive", archive]


def test_side_files_are_where_the_job_asks_for_them(site: Site) -> None:
    site.write("in.txt", "the cat a dog the cat\n")
    job = site.write("job.py", SIDE)
    given = side_files(site.directory / "given")
    done = site.run(f"{job}:Words", "in.txt", *given, "--reducers", 1)
    assert done.status == 0, done.err
    lines = site.parts()[0].decode().splitlines()
    assert lines[0] == "cat\therehere"
    assert lines[2] == "dog\there"
    assert lines[1].endswith("/jobs/Job001/side/places")


def test_side_files_come_to_a_cluster_and_go_with_the_job(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("the cat a dog the cat\n")
    (tmp_path / "job.py").write_text(SIDE)
    words = [f"{tmp_path / 'job.py'}:Words", tmp_path / "in.txt", *side_files(tmp_path / "given")]
    done = cluster.site.pytxmr("run", *words, "--reducers", 3, "--output", tmp_path / "out")
    assert done.status == 0, done.err
    found = b"".join(path.read_bytes() for path in (tmp_path / "out").glob("part-*"))
    assert b"cat\therehere\n" in found
    assert cluster.jobs_on_disk() == []


def test_archive_that_leads_out_of_itself_is_refused_before_anything_runs(site: Site) -> None:
    site.write("in.txt", "a\n")
    job = site.write("job.py", SIDE)
    with tarfile.open(site.directory / "bad.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"))
    words = ["in.txt", "--archive", "bad.tar#places", "--output", "out", "--runner", "inline"]
    done = site.pytxmr("run", f"{job}:Words", *words)
    assert done.status == 2
    assert "has a member outside of itself: '../escaped'" in done.err
    assert not (site.directory / "out").exists()


def test_what_travels_reaches_trackers_that_join_after_the_jobtracker_came_back(
    site: Site, gate: Gate
) -> None:
    """The jobtracker dies while the only tracker has a map, and another one waits."""
    cluster = Cluster(site)
    cluster.start_jobtracker()
    cluster.start_tracker("first")
    cluster.joined("first")
    site.write("in.txt", "the cat a dog the cat\nthe cat a dog the cat\n")
    write(site.directory / "jobs", {"waiting.py": Gate.SOURCE, "job.py": SIDE})
    job = site.directory / "jobs" / "job.py"
    waiting = f"from waiting import gate\n{SIDE}".replace(
        "        for word", f"        gate({str(gate.directory)!r})\n        for word", 1
    )
    job.write_text(waiting)
    words = [f"{job}:Words", "in.txt", *side_files(site.directory / "given")]
    shape = ["--reducers", 1, "--split-size", 22, "--no-speculation"]
    running = site.start(*PYTXMR, "run", *words, *shape, "--output", "out")
    gate.reached()
    cluster.jobtracker.stop(signal.SIGKILL)
    for path in (site.directory / "given").iterdir():
        path.unlink()
    cluster.start_jobtracker()
    cluster.start_tracker("second")
    cluster.joined("second")
    gate.reached()  # the second has what travels, as its map has begun
    for _ in range(2):
        gate.open()
    assert running.ended() == 0, running.err
    assert b"cat\therehereherehere\n" in site.parts()[0]
    cluster.close()


VALUES = """\
from dataclasses import dataclass
from datetime import date
from lib.visits import Visit

{declared}

def mapper(key, value):
    day, page = value.split()
    yield date.fromisoformat(day), Visit(page, 1)

def combiner(key, values):
    for visit in values:
        yield key, visit

def reducer(key, values):
    yield key, sorted((visit.page, visit.count) for visit in values)
"""
VISITS = {
    "lib/visits.py": """\
from dataclasses import dataclass

@dataclass
class Visit:
    page: str
    count: int
"""
}


@pytest.mark.parametrize("declared", ["codecs = [Visit]", "serializer = 'pickle'"])
def test_jobs_own_values_come_as_they_went(site: Site, declared: str) -> None:
    site.write("in.txt", "2024-01-10 b\n2023-12-31 c\n2024-01-10 a\n")
    write(site.directory, VISITS)
    job = site.write("job.py", VALUES.format(declared=declared))
    done = site.run(job, "in.txt", "--reducers", 1, "--split-size", 15)
    assert done.status == 0, done.err
    assert site.parts() == [b'2023-12-31\t[["c", 1]]\n2024-01-10\t[["a", 1], ["b", 1]]\n']


def test_values_of_a_class_that_was_not_declared_are_refused_with_what_to_say(site: Site) -> None:
    site.write("in.txt", "2024-01-10 b\n")
    write(site.directory, VISITS)
    done = inline(site, site.write("job.py", VALUES.format(declared="")), "in.txt")
    assert done.status == 1
    assert "a lib.visits.Visit cannot be carried: say codecs = [Visit] in the job" in done.err
    assert "the key datetime.date(2024, 1, 10)" in done.err


def test_serializer_that_is_misspelt_is_refused_before_anything_runs(site: Site) -> None:
    site.write("in.txt", "2024-01-10 b\n")
    write(site.directory, VISITS)
    done = inline(
        site, site.write("job.py", VALUES.format(declared="serializer = 'pickel'")), "in.txt"
    )
    assert done.status == 2
    assert "serializer is 'pickel', not msgpack or pickle; did you mean pickle?" in done.err


def test_trackers_show_declared_values_and_open_no_pickle(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("2024-01-10 b\n")
    write(tmp_path, VISITS)
    answers = []
    for declared in ("codecs = [Visit]", "serializer = 'pickle'"):
        (tmp_path / "job.py").write_text(VALUES.format(declared=declared))
        words = [tmp_path / "job.py", tmp_path / "in.txt", "--reducers", 1, "--keep"]
        output = tmp_path / f"out{len(answers)}"
        submitted = cluster.site.pytxmr("submit", *words, "--output", output)
        job = submitted.out.strip()
        assert cluster.site.pytxmr("wait", job).status == 0
        name = next(
            n for n in cluster.trackers if [*cluster.work_dir(n).glob(f"jobs/{job}/spills/Map*")]
        )
        port = cluster.store_port(name)
        with socket.create_connection(("127.0.0.1", port), 10) as asked:
            asked.sendall(f"{job}@Map001@0\n".encode())
            asked.shutdown(socket.SHUT_WR)
            answers.append(asked.makefile("rb").read())
        assert cluster.site.pytxmr("destroy", job).status == 0
    assert answers[0].startswith(b'["2024-01-10", ["b", 1]]\n# 1 pairs, 1 keys')
    assert answers[1] == b"! error: the values are pickled: only the job's own workers open them\n"
