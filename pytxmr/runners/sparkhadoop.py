"""Hadoop's filesystems, as Spark has them, for URLs of a job on Spark.

The driver asks by the Java that Spark's application has, with its configuration. On executors a
Python worker has no way into theirs. So it starts a small one of its own, from the same jars and
with the driver's configuration, when it first needs it, and keeps it as long as it lives itself:
that Java ends when its standard input does.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytxmr.errors import BadInput
from pytxmr.model import JobSpec, shown_path
from pytxmr.records.remote import checked_url, open_by, reason_of

if TYPE_CHECKING:
    from pyspark import SparkContext

#: What is opened so where Spark's Hadoop has it, and by fsspec elsewhere.
SCHEMES = ("hdfs", "viewfs", "s3a", "abfs", "abfss", "gs")
#: Of the Java of a worker, which holds some pieces of files at the most.
_MOST_MIB = 256
_HINTS = {
    "s3a": (
        "; or --spark-conf spark.jars.packages=org.apache.hadoop:hadoop-aws:VERSION, with the "
        "version of Spark's Hadoop; or name it s3://"
    )
}


@contextmanager
def expecting() -> Iterator[None]:
    """Before Spark has begun, let nobody check whether fsspec has what Hadoop may have. What has to
    be read before, it reads all the same."""
    open_by(SCHEMES, _by_fsspec)
    try:
        yield
    finally:
        open_by(SCHEMES, None)


def _by_fsspec(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        filesystem, path = url_to_fs(url)
    except Exception as error:  # each library has errors of its own
        reason = reason_of(error).partition("\n")[0]
        raise BadInput(
            f"cannot read {shown_path(url)} before Spark begins, when keys are sampled: fsspec "
            f"cannot open it: {reason}"
        ) from None
    return filesystem, path


def scheme_of(url: str) -> str:
    """That of a URL that Hadoop may open, else nothing."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator and scheme in SCHEMES else ""


@contextmanager
def serving(context: SparkContext, spec: JobSpec) -> Iterator[dict[str, Any]]:
    """Within it, open the job's URLs by Hadoop if Spark has that for them; what `serve` is to be
    given for the same on executors, empty if there is nothing to do.

    Raises `BadInput` for a URL that neither Hadoop nor fsspec opens.
    """
    urls = [path for path, _ in spec.sourced_inputs] + [spec.output]
    schemes = []
    for scheme in sorted({scheme_of(url) for url in urls} - {""}):
        if _has(context, scheme):
            schemes.append(scheme)
            continue
        url = next(url for url in urls if scheme_of(url) == scheme)
        try:
            checked_url(url, "write to" if url == spec.output else "read")
        except BadInput as error:
            error.message += _HINTS.get(scheme, "; nor has Spark's Hadoop anything for it")
            raise
    if not schemes:
        yield {}
        return
    jvm: Any = context._jvm
    conf = context._jsc.hadoopConfiguration()
    open_by(schemes, _opener(lambda: (jvm, conf)))
    try:
        text = jvm.java.io.StringWriter()
        conf.writeXml(text)
        yield {"schemes": schemes, "conf": zlib.compress(text.toString().encode())}
    finally:
        open_by(schemes, None)


def _has(context: SparkContext, scheme: str) -> bool:
    from py4j.protocol import Py4JJavaError

    jvm: Any = context._jvm
    try:
        jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(
            scheme, context._jsc.hadoopConfiguration()
        )
    except Py4JJavaError:
        return False
    return True


def _opener(java: Callable[[], tuple[Any, Any]]) -> Callable[[str], tuple[Any, str]]:
    """What opens URLs by the Java, and the configuration, that it is given."""

    def opened(url: str) -> tuple[Any, str]:
        from pytxmr.runners.hadoopfiles import HadoopFileSystem

        scheme, _, place = url.partition("://")
        filesystem = HadoopFileSystem(*java(), scheme, place.partition("/")[0])
        return filesystem, filesystem._strip_protocol(url)

    return opened


# ---- on executors

#: The configuration that is served by, and the Java with it, if there is one already.
_served: tuple[bytes, tuple[Any, Any] | None] = (b"", None)


def serve(plain: dict[str, Any]) -> None:
    """Open URLs by Hadoop as the driver does; ``plain`` is from `serving`, and ``jars`` beside."""
    global _served
    if _served[0] != plain["conf"]:
        _served = plain["conf"], None

    def java() -> tuple[Any, Any]:
        global _served
        conf, begun = _served
        if begun is None:
            begun = _begun(conf, plain["jars"])
            _served = conf, begun
        return begun

    open_by(plain["schemes"], _opener(java))


#: The Java of this process.
_java: Any = None


def _begun(conf: bytes, jars: str) -> tuple[Any, Any]:
    global _java
    if _java is None:
        _java = _started(jars)
    jvm = _java.jvm
    read = jvm.org.apache.hadoop.conf.Configuration(False)
    read.addResource(jvm.java.io.ByteArrayInputStream(zlib.decompress(conf)))
    return jvm, read


def _started(jars: str) -> Any:
    """Start Java, with the jars of the executor's and those in the directory that Spark sent."""
    from py4j.java_gateway import GatewayParameters, JavaGateway

    java, classpath, options = _executor()
    places = [classpath, *sorted(glob.glob(f"{glob.escape(jars)}/*.jar"))]
    command = [java, f"-Xmx{_MOST_MIB}m", "-XX:+UseSerialGC", *options]
    try:
        process = subprocess.Popen(
            [*command, "py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0"],
            env=os.environ | {"CLASSPATH": os.pathsep.join(places)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it has to say comes as exceptions
        )
    except OSError as error:
        raise OSError(f"Java does not start for Hadoop's filesystems: {error}") from error
    assert process.stdout is not None
    port, token = process.stdout.readline(), process.stdout.readline()
    if not token:
        process.kill()
        raise OSError(f"Java does not start for Hadoop's filesystems: {java}")
    parameters = GatewayParameters(port=int(port), auth_token=token.decode().strip())
    gateway = JavaGateway(gateway_parameters=parameters)
    gateway.process = process  # whose standard input is open as long as we live
    return gateway


def _executor() -> tuple[str, str, list[str]]:
    """Java, class path and what of Java's options is needed, of the executor that has started us;
    or else what the environment says."""
    for pid in _ancestors():
        try:
            java = os.readlink(f"/proc/{pid}/exe")
            if os.path.basename(java) != "java":
                continue
            words = _words_of(f"/proc/{pid}/cmdline")
            env = dict(word.partition("=")[::2] for word in _words_of(f"/proc/{pid}/environ"))
        except OSError:
            continue
        options = [word for word in words if word.startswith(("--add-opens=", "--add-exports="))]
        named = [words[at + 1] for at, word in enumerate(words) if word in ("-cp", "-classpath")]
        return java, named[0] if named else env.get("CLASSPATH", ""), options
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java") or "java"
    return java, os.path.join(os.environ.get("SPARK_HOME", ""), "jars", "*"), []


def _ancestors() -> Iterable[int]:
    pid = os.getppid()
    while pid > 1:
        yield pid
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            return


def _words_of(path: str) -> list[str]:
    with open(path, "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")]
