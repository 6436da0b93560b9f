"""What each subcommand does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from twisted.internet.task import deferLater

from pytxmr.cli.reactor import (
    Interrupted,
    Interrupts,
    Signalled,
    run_in_reactor,
    signals_as_interrupts,
)
from pytxmr.cli.report import Face, show_table
from pytxmr.cli.stdin import stdin_in_a_file
from pytxmr.cli.summary import show_status
from pytxmr.client import Patient, as_a_whole, connect, submit
from pytxmr.errors import BadConfiguration, BadInput, JobFailed, PytxmrError
from pytxmr.model import JobSpec
from pytxmr.net.remote import Peer
from pytxmr.net.secret import inspection_token, make_secret, read_secret
from pytxmr.runners import Runner, Told
from pytxmr.runners.local import LocalCluster
from pytxmr.specs import JobOptions, make_specs

_POLL_SECONDS = 0.2

#: ``ask(verb, *args)`` gives the jobtracker's answer, or None if it is gone at present.
Ask = Callable[..., Any]


def run(options: argparse.Namespace) -> int:
    with ExitStack() as ending:
        try:
            if options.runner == "spark":
                _check_stdin(options)
            if options.runner != "cluster":
                options.inputs = ending.enter_context(stdin_in_a_file(options.inputs))
            specs = make_jobs(options)
        except BaseException:
            for worker in options.spawned:
                worker.end()
            raise
        ending.enter_context(keeping_no_steps(specs, options))
        return RUNNERS[options.runner](options, specs)


@contextmanager
def keeping_no_steps(specs: list[JobSpec], options: argparse.Namespace) -> Iterator[None]:
    """Remove at the end what the steps of a job have left for each other, unless that is wanted:
    who runs some of the steps has kept the others."""
    if specs[0].steps == 1:
        yield
        return
    from pytxmr import steps

    keep = options.keep_steps or options.from_ or options.only
    try:
        yield
        how = steps.how_to_go_on(specs) if keep else ""
        if how:  # it was interrupted
            print(f"pytxmr: {how}", file=sys.stderr)
    except JobFailed as error:
        how = steps.how_to_go_on(specs) if keep else ""
        error.message += f"; {how}" if how else ""
        raise
    finally:
        # On a cluster the jobtracker does it, when the job has ended, which may be later.
        if options.runner != "cluster":
            steps.remove_stored(specs)


def _run_inline(options: argparse.Namespace, specs: list[JobSpec]) -> int:
    """No progress is shown: a debugger may have the terminal."""
    # Twisted has no part in it, and other runners have none of what it imports.
    from pytxmr.runners import inline

    return _run_without_reactor(options, specs, inline.run_all)


def _check_stdin(options: argparse.Namespace) -> None:
    from pytxmr.runners.spark import is_here

    if "-" in options.inputs and not is_here(options.master or "local"):
        where = f"not with --master {options.master}"
        raise BadInput(f"standard input, -, is only for a job that runs here: {where}")


def _run_on_spark(options: argparse.Namespace, specs: list[JobSpec]) -> int:
    from pytxmr.runners import spark

    def run(specs: list[JobSpec], told: Told) -> dict[str, Any]:
        def shown(status: dict[str, Any]) -> None:
            told(status)
            if not status["outcome"]:
                options.face.progress(status)

        try:
            return spark.run_all(specs, shown, options.master, options.spark_conf)
        finally:
            options.face.close()

    return _run_without_reactor(options, specs, run)


def _run_without_reactor(options: argparse.Namespace, specs: list[JobSpec], run: Runner) -> int:
    last = {"job": "Job001"}
    try:
        with signals_as_interrupts():
            status = run(specs, last.update)
    except KeyboardInterrupt as stop:
        print(f"pytxmr: {last['job']} was killed: interrupted", file=sys.stderr)
        return stop.status if isinstance(stop, Signalled) else 130
    options.face.summary(status)
    return 0


def _run_on_cluster(options: argparse.Namespace, specs: list[JobSpec]) -> int:
    async def submit_and_watch(jobtracker: Patient, interrupts: Interrupts) -> int:
        try:
            # Not given up while the jobtracker is there: the job would go on unnoticed.
            job = await jobtracker.submit(specs)
        except Interrupted:
            unknown = "interrupted; if `pytxmr jobs` lists the job later, it was queued"
            print(f"pytxmr: {unknown}", file=sys.stderr)
            raise
        return await _watch_to_end(jobtracker.ask, interrupts, job, options.face)

    return _patiently(options, submit_and_watch)


def _run_locally(options: argparse.Namespace, specs: list[JobSpec]) -> int:
    return run_in_reactor(lambda r, i: _run_here(r, i, options, specs))


async def _run_here(
    reactor: Any, interrupts: Interrupts, options: argparse.Namespace, specs: list[JobSpec]
) -> int:
    spawned = options.spawned
    cluster = LocalCluster(reactor, len(spawned), spawned, jobs=len(specs) > 1)
    try:
        jobtracker = await cluster.start()
        job = await submit(jobtracker, specs)
        status = await _watch_to_end(jobtracker.call, interrupts, job, options.face)
        if status == 0 and any(spec.keep for spec in specs):
            await _stay_for_inspection(reactor, interrupts, cluster)
        return status
    finally:
        await cluster.stop()


async def _stay_for_inspection(reactor: Any, interrupts: Interrupts, cluster: LocalCluster) -> None:
    assert cluster.tracker is not None
    assert cluster.tracker.kv_port is not None
    port = cluster.tracker.kv_port.getHost().port  # type: ignore[attr-defined]
    print(f"The spills are kept: telnet 127.0.0.1 {port} and type help; Ctrl-C drops them.")
    sys.stdout.flush()
    while not interrupts.status:
        await deferLater(reactor, _POLL_SECONDS)


async def _watch_to_end(ask: Ask, interrupts: Interrupts, job: str, face: Face) -> int:
    """Show progress, and how it ended; if the user does not want to wait, end it. Raises
    `Interrupted` if the user does not want to wait for that either."""
    try:
        status = await _watch(ask, interrupts, job, face)
    except Interrupted as interrupted:
        print(f"pytxmr: interrupted; ending {job}", file=sys.stderr)
        interrupts.begin_anew()
        if await interrupts.unless(_asked(ask, "kill", job, "interrupted")) is None:
            gone = f"{job} goes on when the jobtracker is back: `pytxmr kill {job}` ends it then"
            print(f"pytxmr: {gone}", file=sys.stderr)
            return interrupted.status
        status = await _watch(ask, interrupts, job, face)
        # It may have ended just before that, in success or failure.
        if status["outcome"] == "killed":
            print(f"pytxmr: {job} was killed: interrupted", file=sys.stderr)
            return interrupted.status
    return await _tell_end(ask, status, face)


async def _watch(ask: Ask, interrupts: Interrupts, job: str, face: Face) -> dict[str, Any]:
    """Show progress until the job has ended; its last status. Raises `Interrupted`."""
    try:
        while True:
            status = await interrupts.unless(_asked(ask, "wait", job, _POLL_SECONDS))
            if status is None:
                continue
            if status["outcome"]:
                return status
            face.progress(status.get("current") or status)
    finally:
        face.close()


async def _tell_end(ask: Ask, status: dict[str, Any], face: Face) -> int:
    """An ended job's summary. Raises `JobFailed`."""
    status = await as_a_whole(ask, status)
    if status["outcome"] != "succeeded":
        # What is not wanted by every run is imported where it is.
        from pytxmr.result import failure_of

        raise failure_of(status)
    face.summary(status)
    return 0


async def _asked(ask: Ask, *words: Any) -> Any:
    try:
        return await ask(*words)
    except PytxmrError as error:
        # The job may go on, or not: that is a failure of the job's run, not of the command line.
        raise JobFailed(error.message, **error.details) from error


def submit_only(options: argparse.Namespace) -> int:
    specs = make_jobs(options)

    async def queue(jobtracker: Patient, interrupts: Interrupts) -> int:
        print(await interrupts.unless(jobtracker.submit(specs)))
        return 0

    return _patiently(options, queue)


def plan(options: argparse.Namespace) -> int:
    from pytxmr.cli.plan import show_plan

    show_plan(
        JobOptions(
            options.job,
            tuple(options.inputs),
            "",
            _names(options),
            dict(options.params),
            py_files=tuple(options.py_files),
            files=tuple(options.files),
            archives=tuple(options.archives),
        )
    )
    return 0


def status(options: argparse.Namespace) -> int:
    async def show(jobtracker: Peer, interrupts: Interrupts) -> int:
        show_status(await jobtracker.call("status", options.job))
        return 0

    return _with_cluster(options, show)


def wait(options: argparse.Namespace) -> int:
    async def watch(jobtracker: Patient, interrupts: Interrupts) -> int:
        while await interrupts.unless(jobtracker.ask("status", options.job)) is None:
            pass
        status = await _watch(jobtracker.ask, interrupts, options.job, options.face)
        return await _tell_end(jobtracker.ask, status, options.face)

    return _patiently(options, watch)


def kill(options: argparse.Namespace) -> int:
    async def end(jobtracker: Peer, interrupts: Interrupts) -> int:
        show_status(await jobtracker.call("kill", options.job, "by `pytxmr kill`"))
        return 0

    return _with_cluster(options, end)


def counters(options: argparse.Namespace) -> int:
    async def show(jobtracker: Peer, interrupts: Interrupts) -> int:
        status = await jobtracker.call("status", options.job)
        found = (await as_a_whole(jobtracker.call, status))["counters"]
        for name, value in sorted(found.items()):
            print(f"{name.removeprefix('job: ')}\t{value}")
        return 0

    return _with_cluster(options, show)


def destroy(options: argparse.Namespace) -> int:
    async def drop(jobtracker: Peer, interrupts: Interrupts) -> int:
        chain = (await jobtracker.call("status", options.job)).get("chain") or [options.job]
        # The last of a job's steps stands for all of them.
        for job in chain if options.job == chain[-1] else [options.job]:
            await jobtracker.call("destroy", job)
        return 0

    return _with_cluster(options, drop)


def logs(options: argparse.Namespace) -> int:
    if options.follow:
        return _patiently(options, lambda j, i: _follow_logs(j, i, options.job, options.task))

    async def show(jobtracker: Peer, interrupts: Interrupts) -> int:
        found = await jobtracker.call("logs", options.job, options.task, options.failed)
        current = not found and (await jobtracker.call("status", options.job)).get("current")
        if current:
            what = f"{options.job} waits for {current['job']}, which has logs of its own"
            print(f"pytxmr: {what}: pytxmr logs {current['job']}", file=sys.stderr)
        for log in found:
            print(f"=== {options.job}@{log['attempt']} on {log['tracker']}")
            print(log["text"].rstrip("\n"))
        return 0

    return _with_cluster(options, show)


async def _follow_logs(
    jobtracker: Patient, interrupts: Interrupts, job: str, task: str | None
) -> int:
    seen: dict[str, int] = {}
    last: tuple[str, str] | None = None
    while True:
        status = await interrupts.unless(jobtracker.ask("wait", job, _POLL_SECONDS))
        is_over = status is not None and bool(status["outcome"])
        # What is printed last is there before the job has ended.
        while True:
            more = await interrupts.unless(jobtracker.ask("followLogs", job, task, seen, is_over))
            if more is None and is_over:
                continue  # the jobtracker is gone; there may be something that was not read
            if not more:
                break
            for tracker, attempt, text, end in more:
                if last != (tracker, attempt):
                    last = (tracker, attempt)
                    print(f"=== {job}@{attempt} on {tracker}")
                sys.stdout.write(text)
                if is_over and not text.endswith("\n"):
                    sys.stdout.write("\n")
                seen[attempt] = end
            sys.stdout.flush()
        if is_over:
            return 0


def jobs(options: argparse.Namespace) -> int:
    async def show(jobtracker: Peer, interrupts: Interrupts) -> int:
        rows = [["JOB", "STATE", "MAPS", "REDUCES", "SECONDS", "NAME", "OUTPUT"]]
        for job in await jobtracker.call("jobs", options.all):
            state = job["outcome"] or job["phase"]
            maps = f"{job['maps_done']}/{job['maps']}"
            reduces = f"{job['reduces_done']}/{job['reduces']}"
            seconds = f"{job['seconds']:.1f}"
            rows.append([job["job"], state, maps, reduces, seconds, job["name"], job["output"]])
        show_table(rows)
        return 0

    return _with_cluster(options, show)


def trackers(options: argparse.Namespace) -> int:
    async def show(jobtracker: Peer, interrupts: Interrupts) -> int:
        rows = [["TRACKER", "WORKERS", "BUSY", "AVOIDED", "SERVES"]]
        for tracker in await jobtracker.call("trackers"):
            numbers = [str(tracker["workers"]), str(tracker["busy"])]
            avoided = "yes" if tracker["avoided"] else "no"
            rows.append([tracker["tracker"], *numbers, avoided, tracker["address"]])
        show_table(rows)
        return 0

    return _with_cluster(options, show)


def new(options: argparse.Namespace) -> int:
    from pytxmr.cli.new import write_job

    print(write_job(options.directory), end="")
    return 0


def secret(options: argparse.Namespace) -> int:
    make_secret(options.file)
    return 0


def token(options: argparse.Namespace) -> int:
    print(inspection_token(_secret(options)))
    return 0


def _with_cluster(
    options: argparse.Namespace, ask: Callable[[Peer, Interrupts], Coroutine[Any, Any, int]]
) -> int:
    endpoint, secret = _cluster(options)

    async def connected(reactor: Any, interrupts: Interrupts) -> int:
        jobtracker = await interrupts.unless(connect(reactor, endpoint, secret))
        try:
            return await interrupts.unless(ask(jobtracker, interrupts))
        finally:
            jobtracker.disconnect()

    return run_in_reactor(connected)


def _patiently(
    options: argparse.Namespace, ask: Callable[[Patient, Interrupts], Coroutine[Any, Any, int]]
) -> int:
    """The same with a jobtracker that may be gone for a while."""
    endpoint, secret = _cluster(options)

    async def connected(reactor: Any, interrupts: Interrupts) -> int:
        def told(error: PytxmrError) -> None:
            if not interrupts.status:  # else it is we who gave up
                print(f"pytxmr: {error}; waiting for it to come back", file=sys.stderr)

        jobtracker = Patient(
            await interrupts.unless(connect(reactor, endpoint, secret)),
            reactor,
            lambda: connect(reactor, endpoint, secret),
            told,
            interrupts.unless,
        )
        try:
            return await ask(jobtracker, interrupts)
        finally:
            jobtracker.disconnect()

    return run_in_reactor(connected)


def _cluster(options: argparse.Namespace) -> tuple[str, bytes]:
    """The jobtracker's endpoint, and the secret."""
    if not options.jobtracker:
        raise BadConfiguration("--jobtracker ENDPOINT, or PYTXMR_JOBTRACKER, is needed")
    return options.jobtracker, _secret(options)


def _secret(options: argparse.Namespace) -> bytes:
    if not options.secret_file:
        raise BadConfiguration("--secret-file FILE, or PYTXMR_SECRET_FILE, is needed")
    return read_secret(options.secret_file)


def make_jobs(options: argparse.Namespace) -> list[JobSpec]:
    """What the options of `pytxmr run` and `submit` ask for. Raises as `make_specs`."""
    if getattr(options, "runner", None) == "spark":  # `submit` has no runners
        from pytxmr.runners import sparkhadoop

        with sparkhadoop.expecting():
            return make_specs(_job_options(options))
    return make_specs(_job_options(options))


def _names(options: argparse.Namespace) -> dict[str, str]:
    roles = ("mapper", "reducer", "combiner", "partitioner", "reader", "writer")
    given = {role: getattr(options, role) for role in roles}
    return {role: name for role, name in given.items() if name is not None}


def _job_options(options: argparse.Namespace) -> JobOptions:
    return JobOptions(
        job=options.job,
        inputs=tuple(options.inputs),
        output=options.output or "",
        names=_names(options),
        params=dict(options.params),
        reducers=options.reducers,
        split_bytes=options.split_size,
        keep=options.keep,
        speculate=not options.no_speculation,
        memory_bytes=options.memory,
        task_timeout=options.task_timeout,
        codec=options.codec,
        skip_bad_records=options.skip_bad_records,
        py_files=tuple(options.py_files),
        files=tuple(options.files),
        archives=tuple(options.archives),
        compress=options.compress,
        from_=options.from_,
        only=options.only,
        steps=options.steps,
        reuse=options.reuse,
        reuse_dir=options.reuse_dir,
        keep_steps=options.keep_steps,
    )


#: By where a job is to run: what runs it there, and shows what becomes of it.
RUNNERS: dict[str, Callable[[argparse.Namespace, list[JobSpec]], int]] = {
    "inline": _run_inline,
    "local": _run_locally,
    "cluster": _run_on_cluster,
    "spark": _run_on_spark,
}

COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": run,
    "submit": submit_only,
    "plan": plan,
    "status": status,
    "wait": wait,
    "kill": kill,
    "counters": counters,
    "destroy": destroy,
    "logs": logs,
    "jobs": jobs,
    "trackers": trackers,
    "new": new,
    "secret": secret,
    "token": token,
}
