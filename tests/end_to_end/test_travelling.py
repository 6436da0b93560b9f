"""What travels with a job, on processes that do not know the client's directories."""

from __future__ import annotations

from pathlib import Path

from processes import Cluster, Site

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
    done = site.run(job, "in.txt")
    assert done.status == 2
    assert "did you mean helper?" in done.err
    assert f'File "{job}", line 1' in done.err
    assert not (site.directory / "out").exists()
