"""What is wrong with a command line is said before anything runs: status 2, and nothing is made."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import inline, typed
from processes import PYTXMR, WORDCOUNT, Finished, Process, Site

JOB = """\
params = {"field": 0}

def mapper(key, value):
    yield value, 1

def reducer(key, values):
    yield key, sum(values)

class Count:
    def map(self, key, value):
        yield value, 1
    def reduce(self, key, values):
        yield key, sum(values)
"""


@pytest.fixture
def job(site: Site) -> Path:
    site.write("in.txt", "a\nb\n")
    return site.write("job.py", JOB)


def refused(site: Site, *words: object) -> str:
    """What the command said; it must have refused, and made nothing."""
    return _refused(site, lambda: typed(site, *words))


def refused_in_a_process(site: Site, *words: object) -> str:
    """The same of the command in a process of its own, which may start others."""
    return _refused(site, lambda: site.pytxmr(*words))


def _refused(site: Site, run: Callable[[], Finished]) -> str:
    before = site.listing()
    done = run()
    assert done.status == 2, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert site.listing() == before
    return done.err


def run_refused(site: Site, job: object, *words: object) -> str:
    return _refused(site, lambda: inline(site, job, *words))


def test_missing_input_is_named(site: Site, job: Path) -> None:
    said = refused_in_a_process(site, "run", job, "in.txt", "gone.txt", "-o", "out")
    assert said == f"pytxmr: cannot read {site.directory}/gone.txt: No such file or directory\n"


def test_input_below_a_file_is_named(site: Site, job: Path) -> None:
    said = run_refused(site, job, "in.txt/part")
    assert said == f"pytxmr: cannot read {site.directory}/in.txt/part: Not a directory\n"


def test_input_that_is_no_file_is_named(site: Site, job: Path) -> None:
    os.mkfifo(site.directory / "pipe")
    said = run_refused(site, job, "pipe")
    assert said == (
        f"pytxmr: cannot read {site.directory}/pipe: not a file; "
        "name - to have standard input read\n"
    )


def test_glob_without_a_match_is_named(site: Site, job: Path) -> None:
    said = run_refused(site, job, "*.log")
    assert said == f"pytxmr: no file matches {site.directory}/*.log\n"


def test_existing_output_directory_is_refused(site: Site, job: Path) -> None:
    (site.directory / "out").mkdir()
    said = run_refused(site, job, "in.txt")
    assert f"the output directory {site.directory}/out exists already" in said


def test_missing_module_is_named(site: Site, job: Path) -> None:
    said = run_refused(site, "gone.py", "in.txt")
    assert said == "pytxmr: cannot read the job module gone.py: No such file or directory\n"
    said = run_refused(site, "jbo.py", "in.txt")
    assert said.endswith("jbo.py: No such file or directory; did you mean job.py?\n")


def test_syntax_error_names_file_and_line(site: Site, job: Path) -> None:
    bad = site.write("bad.py", "def mapper(key, value):\n    yield key value\n")
    said = run_refused(site, bad, "in.txt")
    assert said.splitlines()[0] == f'  File "{bad}", line 2'
    assert "yield key value" in said
    assert f"pytxmr: {bad}, line 2: invalid syntax" in said


def test_module_that_raises_shows_the_users_own_traceback(site: Site, job: Path) -> None:
    bad = site.write("bad.py", "import os\nLIMIT = {}['limit']\n")
    done = inline(site, bad, "in.txt")
    assert done.status == 2
    assert done.err.splitlines()[:3] == [
        "Traceback (most recent call last):",
        f'  File "{bad}", line 2, in <module>',
        "    LIMIT = {}['limit']",
    ]
    assert f"pytxmr: {bad} cannot be imported: KeyError: 'limit'" in done.err


def test_module_without_a_mapper_is_refused(site: Site, job: Path) -> None:
    bad = site.write("bad.py", JOB.replace("def mapper", "def _other"))
    said = run_refused(site, bad, "in.txt")
    assert f"{bad} has no mapper()" in said
    assert "or name another with --mapper" in said


def test_misspelt_function_is_answered_with_the_nearest(site: Site, job: Path) -> None:
    said = run_refused(site, job, "in.txt", "--mapper", "maper")
    assert said == f"pytxmr: {job} has no maper(); did you mean mapper?\n"


def test_misspelt_role_and_hook_of_the_module_are_answered_with_the_nearest(
    site: Site, job: Path
) -> None:
    bad = site.write("bad.py", JOB.replace("def reducer", "def redcuer"))
    said = run_refused(site, bad, "in.txt")
    assert said.startswith(f"pytxmr: {bad} defines redcuer(); did you mean reducer()?")
    bad = site.write("bad.py", JOB + "\ndef mapper_final(): ...\n")
    said = run_refused(site, bad, "in.txt")
    assert said.startswith(f"pytxmr: {bad} defines mapper_final(); did you mean map_final()?")


def test_misspelt_class_is_answered_with_the_nearest(site: Site, job: Path) -> None:
    said = run_refused(site, f"{job}:Counts", "in.txt")
    assert said == f"pytxmr: {job} has no class Counts; did you mean Count?\n"


def test_unknown_parameter_is_answered_with_the_nearest(site: Site, job: Path) -> None:
    said = run_refused(site, job, "in.txt", "-D", "fields=1")
    assert said == "pytxmr: -D fields: the job declares no such parameter; did you mean field?\n"


def test_parameter_of_another_type_is_refused(site: Site, job: Path) -> None:
    said = run_refused(site, job, "in.txt", "-D", "field=first")
    assert said == "pytxmr: -D field=first: not int\n"


@pytest.mark.parametrize("size", ["0", "64XB"])
def test_bad_size_is_answered_with_good_ones(site: Site, job: Path, size: str) -> None:
    said = run_refused(site, job, "in.txt", f"--split-size={size}")
    assert f"{size!r} is no size; say 1000, 64KiB, 32MiB or 1GiB" in said


def test_cluster_command_without_a_jobtracker_says_how_to_name_one(site: Site) -> None:
    assert "--jobtracker ENDPOINT, or PYTXMR_JOBTRACKER, is needed" in refused(site, "jobs")


# ---- the cluster and its secret


def on_cluster(job: Path, endpoint: str, secret: Path) -> list[object]:
    at = ["--jobtracker", endpoint, "--secret-file", secret]
    return ["run", job, "in.txt", "-o", "out", *at]


@pytest.fixture
def secret(site: Site) -> Path:
    path = site.write("secret", "0" * 64)
    path.chmod(0o600)
    return path


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def asking_a_silent_peer(tmp_path_factory) -> Process:
    """Begun before the other tests here, as it has to wait for the deadline."""
    site = Site(tmp_path_factory.mktemp("silent"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        secret = site.write("secret", "0" * 64)
        secret.chmod(0o600)
        at = f"tcp:127.0.0.1:{silent.getsockname()[1]}"
        words = [*PYTXMR, *on_cluster(WORDCOUNT, at, secret)]
        site.write("in.txt", "a\n")
        try:
            yield site.start(*words)
            site.assert_clean()
        finally:
            site.close()


def test_jobtracker_that_is_not_there_is_named(
    site: Site, job: Path, secret: Path, closed_port: int
) -> None:
    endpoint = f"tcp:127.0.0.1:{closed_port}"
    said = refused_in_a_process(site, *on_cluster(job, endpoint, secret))
    assert said == f"pytxmr: cannot connect to the jobtracker at {endpoint}: Connection refused\n"


def test_endpoint_that_is_none_is_answered_with_one(site: Site, job: Path, secret: Path) -> None:
    said = refused_in_a_process(site, *on_cluster(job, "nowhere:9000", secret))
    assert "'nowhere:9000' is no endpoint; they look like tcp:127.0.0.1:9000" in said


def test_missing_secret_file_is_answered_with_how_to_make_one(site: Site, job: Path) -> None:
    said = refused_in_a_process(site, *on_cluster(job, "tcp:127.0.0.1:1", Path("gone")))
    assert "cannot read the secret file gone: No such file or directory" in said
    assert "`pytxmr secret gone` makes one" in said


def test_secret_that_others_can_read_is_refused(site: Site, job: Path, secret: Path) -> None:
    secret.chmod(0o640)
    said = refused_in_a_process(site, *on_cluster(job, "tcp:127.0.0.1:1", secret))
    assert f"others can read or write the secret file {secret} (mode 0640)" in said


def test_secret_file_is_made_for_its_owner_alone_and_never_overwritten(site: Site) -> None:
    path = site.directory / "secret"
    assert typed(site, "secret", path).status == 0
    assert path.stat().st_mode & 0o777 == 0o600
    made = path.read_bytes()
    assert f"{path} exists already" in refused(site, "secret", path)
    assert path.read_bytes() == made


@pytest.mark.daemons
def test_wrong_secret_is_refused(site: Site, job: Path, secret: Path, cluster) -> None:
    said = refused_in_a_process(site, *on_cluster(job, cluster.endpoint, secret))
    assert f"the jobtracker at {cluster.endpoint} refused the secret" in said


# ---- daemons


def daemon_refused(site: Site, daemon: str, *words: object) -> str:
    process = site.twistd(daemon, *words)
    assert process.ended() == 1
    return process.err + process.out


@pytest.mark.daemons
@pytest.mark.parametrize(
    ("daemon", "option"), [("jobtracker", "--listen"), ("tasktracker", "--kv-listen")]
)
def test_daemon_names_the_port_that_is_in_use(
    site: Site, secret: Path, daemon: str, option: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        said = daemon_refused(site, daemon, option, listen, "--secret-file", secret)
    assert f"{daemon}: cannot listen on {listen}: Address already in use" in said
    assert "Traceback" not in said


@pytest.mark.daemons
@pytest.mark.parametrize("daemon", ["jobtracker", "tasktracker"])
def test_daemon_does_not_start_without_a_secret(site: Site, daemon: str) -> None:
    said = daemon_refused(site, daemon)
    assert "--secret-file FILE is needed; `pytxmr secret FILE` makes one" in said
    assert site.listing() == set()


@pytest.mark.daemons
@pytest.mark.parametrize(
    ("daemon", "option", "listen"),
    [
        ("jobtracker", "--listen", "tcp:0"),
        ("tasktracker", "--kv-listen", "tcp:0:interface=0.0.0.0"),
    ],
)
def test_daemon_does_not_listen_off_loopback_unless_told(
    site: Site, secret: Path, daemon: str, option: str, listen: str
) -> None:
    said = daemon_refused(site, daemon, option, listen, "--secret-file", secret)
    assert f"{listen} would listen off loopback without TLS" in said
    assert "--insecure" in said


@pytest.mark.daemons
def test_second_tasktracker_in_a_work_directory_is_refused(site: Site, secret, cluster) -> None:
    taken = cluster.work_dir("late")
    words = ["--kv-listen", "tcp:0:interface=127.0.0.1", "--secret-file", secret]
    said = daemon_refused(site, "tasktracker", *words, "--work-dir", taken)
    assert f"another tasktracker uses {taken}; give each its own --work-dir" in said


def test_peer_that_says_nothing_is_given_up(asking_a_silent_peer: Process) -> None:
    assert asking_a_silent_peer.ended(30) == 2
    assert "the jobtracker at tcp:127.0.0.1:" in asking_a_silent_peer.err
    assert "did not answer the login in 10 seconds" in asking_a_silent_peer.err
    assert "Traceback" not in asking_a_silent_peer.err
