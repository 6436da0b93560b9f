"""A job on Apache Spark, by PySpark: for data that outgrow one's own machines.

Spark places, repeats and doubles tasks, and shuffles; what a task does is what it does everywhere
(see `sparktasks`), so that the output is the same to the byte. To Spark a job is two stages: one
task a split, then one task a partition, with ``repartitionAndSortWithinPartitions`` between them.
Its records are pieces of spills, so that of the user's pairs Spark handles none by itself.

Attempts write beside the job's output, which all executors must see, each under a name of its own.
Which of them count Spark decides, by the results that it hands to the driver.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

from pytxmr.errors import BadConfiguration, BadInput, JobFailed, PytxmrError
from pytxmr.model import BAD_RECORDS, InputSplit, JobSpec, job_id
from pytxmr.records.compressed import SUFFIX_OF
from pytxmr.records.quarantine import too_many
from pytxmr.records.remote import is_remote
from pytxmr.runners import Told, inline, sparkhadoop, sparkparcel
from pytxmr.runners.inline import Status
from pytxmr.runners.sparkcounters import Counted, counting
from pytxmr.runners.sparkerrors import Failures
from pytxmr.runners.sparktasks import SparkJob
from pytxmr.storage.output import Part
from pytxmr.storage.places import output_at
from pytxmr.submission import forget_unused, manifest_of, plan_job

if TYPE_CHECKING:
    from pyspark import SparkContext

#: How often it is looked how far Spark is.
_LOOK_SECONDS = 0.1
_CANCEL_SECONDS = 20.0
#: What an executor's Java takes beside its objects, as Spark has it.
_JAVA_MEBIBYTES = 384
#: Of what Spark says, what is told.
_MOST_TEXT = 2000
#: That of Spark's context is what is told anyway.
_LOGGED_ERROR = re.compile(r" ERROR (?!SparkContext:)\S+: (.+)")
_LOCAL = re.compile(r"local(?:\[([0-9]+|\*)\])?", re.ASCII)
_LOCAL_TRIES = re.compile(r"local\[(?:[0-9]+|\*), *([0-9]+)\]", re.ASCII)


def run_all(
    specs: list[JobSpec],
    told: Told,
    master: str | None = None,
    settings: list[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Run a job, step by step, in a Spark application of its own; its last status.

    ``master``: Spark's URL for where it runs; None: what Spark's own configuration says, or else
    ``local[*]``. ``settings`` are those of Spark that win over all others. Raises as `inline.run`.
    """
    log = log_of(specs[-1].output)
    try:
        with application(specs[0], log, master, settings or []) as context:
            status = inline.run_all(
                specs, told, lambda spec, told, number: run(context, spec, told, number)
            )
        return status | {"log": log}
    except (JobFailed, _NoContext) as error:
        error.message += f" (Spark's log: {log})"
        raise
    except BaseException:
        with suppress(OSError):
            os.unlink(log)
        raise


def log_of(output: str) -> str:
    """Where Spark's log goes: beside the output, or if that is elsewhere into the working
    directory."""
    output = output.rstrip(os.sep)
    if is_remote(output):
        output = os.path.abspath(output.rpartition("/")[2])
    return f"{output}.spark.log"


# ---- the application


class _NoContext(BadConfiguration):
    """Spark has begun, and cannot go on; its log says more than can be said here."""


@contextmanager
def application(
    spec: JobSpec, log: str, master: str | None, settings: list[tuple[str, str]]
) -> Iterator[SparkContext]:
    """A Spark application for a job, whose log goes to that file.

    Raises `BadConfiguration` if there can be none, `BadInput` if there is no place for the log."""
    try:
        from pyspark import SparkConf, SparkContext
    except ImportError as error:
        raise BadConfiguration(
            f"--runner spark needs PySpark: pip install 'pytxmr[spark]' ({error})"
        ) from error
    given = dict(settings)
    if master is not None:
        given["spark.master"] = master
    try:
        os.makedirs(os.path.dirname(log), exist_ok=True)
        file = open(log, "wb")
    except OSError as error:
        raise BadInput(f"cannot write {log}: {error.strerror}") from error
    with file:
        gateway = _gateway(given, file)
        try:
            # It has what spark-defaults.conf says; what is given wins over that.
            conf = SparkConf(_jvm=gateway.jvm)
            place = conf.get("spark.master", "local[*]")
            said_cores = conf.get("spark.executor.cores", "")
            cores = int(said_cores) if said_cores.isdecimal() else 1
            for name, value in _settings(place, cores, spec).items():
                said = name == "spark.speculation" and not spec.speculate
                if name == "spark.master" or said and name not in given:
                    conf.set(name, value)
                elif name not in given:
                    conf.setIfMissing(name, value)
            # For these, spark-submit has values of its own.
            conf.setAppName(given.get("spark.app.name", f"pytxmr {spec.name}"))
            conf.set("spark.ui.showConsoleProgress", "false")
            check_settings(dict(conf.getAll()))
            try:
                context = SparkContext(conf=conf, gateway=gateway)
            except Exception as error:
                reason = why_not(_causes(error), log)
                raise _NoContext(f"Spark does not start on {place}: {reason}") from error
            try:
                if is_here(context.master or ""):
                    context.pythonExec = os.environ.get("PYSPARK_PYTHON", sys.executable)
                    yield context
                else:
                    with tempfile.TemporaryDirectory(prefix="pytxmr-") as directory:
                        parcel = os.path.join(directory, "parcel.zip")
                        sparkparcel.write_parcel(parcel, spec)
                        sparkparcel.send(context, parcel)
                        yield context
            finally:
                context.stop()
        finally:
            _end(gateway)


def check_settings(settings: dict[str, str]) -> None:
    """Raises `BadConfiguration` if executors on Kubernetes have no image: Spark says so in its log
    alone, again and again, and waits for them."""
    names = ("spark.kubernetes.container.image", "spark.kubernetes.executor.container.image")
    if settings.get("spark.master", "").startswith("k8s:") and not any(map(settings.get, names)):
        raise BadConfiguration(
            f"Spark's executors on Kubernetes need an image, with Java, Spark and Python: add "
            f"--spark-conf {names[0]}=IMAGE"
        )


def is_here(master: str) -> bool:
    """Do tasks run in this very application's Java, and so with this machine's Python?"""
    return re.match(r"local(\[|$)", master) is not None


def most_attempts(context: SparkContext) -> int:
    """How often Spark tries a task."""
    if (local := _LOCAL_TRIES.fullmatch(context.master or "")) is not None:
        return int(local[1])
    return int(context.getConf().get("spark.task.maxFailures", "4"))


def _gateway(given: dict[str, str], log: IO[bytes]) -> Any:
    """Start Java."""
    from pyspark import SparkConf
    from pyspark.errors import PySparkException
    from pyspark.java_gateway import launch_gateway

    if "JAVA_HOME" not in os.environ and shutil.which("java") is None:
        raise BadConfiguration(
            "--runner spark needs Java 17 or newer: apt-get install openjdk-17-jre-headless, or "
            "set JAVA_HOME"
        )
    conf = SparkConf(loadDefaults=False)
    conf.setAll(list(given.items()))
    made: list[Any] = []

    def launch() -> None:
        try:
            made.append(launch_gateway(conf, {"stdout": log, "stderr": log}))
        except PySparkException as error:
            made.append(error)

    # In a thread, so that Ctrl-C does not come between Java's start and what we know of it.
    thread = Thread(target=launch)
    thread.start()
    try:
        thread.join()
    except BaseException:
        thread.join()
        if not isinstance(made[0], PySparkException):
            _end(made[0])
        raise
    if isinstance(made[0], PySparkException):
        raise BadConfiguration(f"Spark does not start: {reason_of(log.name)}") from made[0]
    return made[0]


def reason_of(log: str) -> str:
    """The line of a log that says best why there is no more of it."""
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file]
    thrown = [line.partition("Exception: ")[2] for line in lines if "Exception: " in line]
    # Java notes where it has options from.
    said = [line for line in lines if line and "WARN" not in line and "Picked up" not in line]
    return (thrown or said or ["it says nothing"])[0][:_MOST_TEXT]


def why_not(causes: list[str], log: str) -> str:
    """Why Spark cannot go on, by what an error says and what has caused it; if nothing else has, by
    the first error in the log."""
    if len(causes) == 1:
        with open(log, encoding="utf-8", errors="replace") as file:
            logged = [found[1].strip() for line in file if (found := _LOGGED_ERROR.search(line))]
        causes = causes + logged[:1]
    said = causes[0]
    for cause in causes[1:]:
        if cause not in said:
            said = f"{said.rstrip('.')}: {cause}"
    return said[:_MOST_TEXT]


def _causes(error: BaseException) -> list[str]:
    """What an error of Java's says, and then its causes."""
    causes = [_said(error)]
    cause: Any = getattr(error, "java_exception", None)
    while cause is not None and (cause := cause.getCause()) is not None:
        if cause.getMessage():
            causes.append(str(cause.getMessage()).splitlines()[0])
    return causes


def _end(gateway: Any) -> None:
    """End Java."""
    from pyspark import SparkContext

    gateway.shutdown()
    SparkContext._gateway = SparkContext._jvm = None
    # It ends when it hears no more of us.
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _settings(master: str, cores: int, spec: JobSpec) -> dict[str, str]:
    """What a job wants of Spark, where nothing else is said, on executors of so many cores."""
    # What Python holds of a partition while it is brought into order: 512 MiB, if nobody says.
    worker_mebibytes = 512 if spec.memory_bytes is None else max(1, spec.memory_bytes >> 20)
    settings = {
        "spark.task.maxFailures": str(spec.max_attempts),
        "spark.speculation": str(spec.speculate).lower(),
    }
    if spec.memory_bytes is not None:
        settings["spark.python.worker.memory"] = f"{worker_mebibytes}m"
    if master.startswith(("yarn", "k8s:")):
        # They end an executor that takes more than its Java and this. What Spark has in mind here
        # is a tenth of Java's memory, or 384 MiB, however many Python processes there are.
        overhead = _JAVA_MEBIBYTES + cores * worker_mebibytes
        settings["spark.executor.minMemoryOverhead"] = f"{overhead}m"
    if (local := _LOCAL.fullmatch(master)) is not None:
        settings |= {
            # Without the second number nothing is tried again.
            "spark.master": f"local[{local[1] or 1},{spec.max_attempts}]",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.local.dir": tempfile.gettempdir(),
        }
    return settings


# ---- a job


def run(
    context: SparkContext, spec: JobSpec, told: Told = lambda status: None, number: int = 1
) -> dict[str, Any]:
    """Run a job that has one step in a Spark application; its last status. Raises as `inline.run`,
    and leaves no output then."""
    with sparkhadoop.serving(context, spec) as hadoop:
        return _run(context, spec, hadoop, told, number)


def _run(
    context: SparkContext, spec: JobSpec, hadoop: dict[str, Any], told: Told, number: int
) -> dict[str, Any]:
    job = job_id(number)
    workers = context.defaultParallelism
    owner = secrets.token_hex(16)
    output = output_at(spec.output, owner)
    splits, uncut = plan_job(spec, output, workers, machines=workers)
    reducers = workers if spec.reducers is None else spec.reducers
    running = _Running(context, spec, SparkJob(spec, owner, reducers, hadoop), splits)
    status = Status(job, spec, len(splits), reducers, uncut, told)
    try:
        results = running.results(status)
        status.tell("committing", maps_done=len(splits), reduces_done=reducers, running=0)
        parts, bad, counters = counted(results, running.counters.value, spec, reducers)
        manifest = manifest_of(job, spec, counters)
        output.commit(parts, manifest, bad, SUFFIX_OF[spec.compress])
        forget_unused(spec)
    except BaseException as error:
        output.discard(job)
        if isinstance(error, PytxmrError):
            raise JobFailed(f"{job}: {error.message}", **error.details) from error
        raise
    return status.ended(counters)


def counted(
    results: list[dict[str, Any]], by_attempt: Counted, spec: JobSpec, reducers: int
) -> tuple[list[Part], list[tuple[str, str]], dict[str, int]]:
    """The parts; the attempts that have set records aside, and their tasks; the counters, which are
    those of the attempts that the results name.

    Raises `AttemptFailed` if too many were set aside, `PytxmrError` if reduces have read different
    runs of one map, or if what counts has not been told.
    """
    parts = [
        Part(done["attempt"], size, digest, name)
        for done in results
        for name, size, digest in (("", done["size_bytes"], done["digest"]), *done["outputs"])
    ]
    maps = results
    if reducers:
        runs: dict[int, str] = {}
        for done in results:
            for index, digest in done["runs"].items():
                if runs.setdefault(index, digest) != digest:
                    raise PytxmrError(
                        f"a map ran again and put out something else than before, which some "
                        f"reduces had read already: run the job again, or make its mapper give "
                        f"the same for the same input (Map{index + 1:03d})"
                    )
        of_maps = {index: one for done in results for index, one in done["maps"].items()}
        maps = [of_maps[index] for index in sorted(of_maps)]
    counters: Counter[str] = Counter()
    for done in [*maps, *results] if reducers else results:
        attempt = done["attempt"]
        # Of an update that fails, Spark speaks in its log, and goes on.
        if attempt not in by_attempt:
            raise PytxmrError(f"Spark has lost what {attempt} has counted: run the job again")
        counters.update(by_attempt[attempt])
    first_bad: dict[str, str] = next((done["first_bad"] for done in maps if done["first_bad"]), {})
    if counters[BAD_RECORDS] > spec.skip_bad_records:
        raise too_many(counters[BAD_RECORDS], spec.skip_bad_records, first_bad)
    bad = [
        (done["attempt"], done["attempt"].rpartition(".")[0]) for done in maps if done["first_bad"]
    ]
    return parts, bad, dict(counters)


class _Running:
    """What Spark runs of one job."""

    def __init__(
        self, context: SparkContext, spec: JobSpec, job: SparkJob, splits: list[InputSplit]
    ) -> None:
        self._context = context
        self._spec = spec
        self._job = job
        self._splits = splits
        self._group = job.owner
        self.counters = counting(context)
        #: By stage and try of it, of which Spark tells of the latest.
        self._failed: dict[tuple[int, int], int] = {}
        self._results: list[dict[str, Any]] = []
        self._error: BaseException | None = None
        place = job.output.attempt_path("")
        self._failures = Failures(place, most_attempts(context), splits)
        self._looked_at = 0

    def results(self, status: Status) -> list[dict[str, Any]]:
        """Run the job's tasks; what they came to, in the order of the parts.

        Raises `PytxmrError`."""
        thread = Thread(target=self._collect, name=f"spark {self._group}", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_LOOK_SECONDS)
                if self._look(status):
                    break
        except BaseException:
            self._cancel(thread)
            raise
        if thread.is_alive():
            self._cancel(thread)
        if self._error is not None:
            raise self._failure() from None
        return self._results

    def _collect(self) -> None:
        context, splits, job = self._context, self._splits, self._job

        def task(name: str) -> sparkparcel.Task:
            is_sent = not is_here(context.master or "")
            return sparkparcel.task(name, job.to_plain(), self.counters, is_sent)

        try:
            context.setJobGroup(self._group, self._spec.name, interruptOnCancel=True)
            given = context.parallelize([split.to_plain() for split in splits], max(1, len(splits)))
            if not job.reducers:
                self._results = given.mapPartitionsWithIndex(task("map_to_parts")).collect()
                return
            pieces = given.mapPartitionsWithIndex(task("map_to_pieces"))
            # Shipped by its code, as in `sparkparcel.task`.
            sorted_pieces = pieces.repartitionAndSortWithinPartitions(
                job.reducers, lambda place: place[0]
            )
            self._results = sorted_pieces.mapPartitionsWithIndex(task("reduce_pieces")).collect()
        except BaseException as error:
            self._error = error

    def _cancel(self, thread: Thread) -> None:
        self._context.cancelJobGroup(self._group)
        thread.join(_CANCEL_SECONDS)

    def _look(self, status: Status) -> bool:
        """Tell how far it is; True if it need not go on."""
        tracker = self._context.statusTracker()
        stages = []
        for number in tracker.getJobIdsForGroup(self._group):
            found = tracker.getJobInfo(number)
            stages += sorted(found.stageIds) if found is not None else []
        infos = [tracker.getStageInfo(stage) for stage in stages]
        tasks = (len(self._splits), self._job.reducers)
        done = [0, 0]
        running = 0
        for place, info in enumerate(infos):
            if info is not None:
                # A stage that is tried again has the tasks that were lost, and no others.
                left = info.numTasks - info.numCompletedTasks
                done[place] = min(max(0, tasks[place] - left), tasks[place])
                running += info.numActiveTasks
                self._failed[info.stageId, info.currentAttemptId] = info.numFailedTasks
        failures = sum(self._failed.values())
        phase = "mapping" if done[0] < tasks[0] or not tasks[1] else "reducing"
        status.tell(
            phase, maps_done=done[0], reduces_done=done[1], running=running, failures=failures
        )
        if failures > self._looked_at:
            self._looked_at = failures
            self._failures.look()
        return self._failures.final() is not None

    def _failure(self) -> PytxmrError:
        """Why Spark has given up."""
        assert self._error is not None
        self._failures.look()
        return (
            self._failures.final()
            or self._failures.exhausted(self._context, self._group)
            or PytxmrError(f"Spark has given up: {_said(self._error)}")
        )


def _said(error: BaseException) -> str:
    """What Spark says of an error, without frames, which its log has."""
    cause: Any = getattr(error, "java_exception", error)
    text = str(cause.getMessage() if hasattr(cause, "getMessage") else cause)
    lines = text.split("\n\tat ")[0].strip().splitlines() or [type(error).__name__]
    # Of a Python exception, the last line says what it is.
    return lines[-1][:_MOST_TEXT]
