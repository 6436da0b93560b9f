"""The command line: subcommands, options, and what ``--help`` teaches."""

from __future__ import annotations

import argparse
import ast
import os
import re
from collections.abc import Sequence
from typing import NoReturn

from pytxmr import __version__
from pytxmr.errors import BadConfiguration
from pytxmr.job.names import nearest
from pytxmr.runners import PLACES

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_EPILOG = """\
A job is a Python module with two generator functions:

    def mapper(key, value):              # key: byte offset, value: the line, as str
        for word in value.split():
            yield word.lower(), 1

    def reducer(key, values):
        yield key, sum(values)

    pytxmr run wordcount.py *.txt --output counts       # here, on all cores
    pytxmr run wordcount.py *.txt --output counts --jobtracker tcp:HOST:9000 --secret-file FILE
"""


def size(text: str) -> int:
    """Bytes from ``1000``, ``64KiB``, ``32MiB``, ``1GiB``; KB and K mean KiB."""
    match = re.fullmatch(r"([0-9]+)\s*([KMGT]?)(i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    number = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; say 1000, 64KiB, 32MiB or 1GiB")
    return number


def positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(text)


def seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; 0 means no limit")
    return int(text)


def definition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _literal_items(text: str) -> list[tuple[str, object]]:
    return list(ast.literal_eval(text).items())


def _paths(text: str) -> list[str]:
    return [path for path in text.split(",") if path]


def build_parser(
    parser_class: type[argparse.ArgumentParser] = argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    parser = parser_class(
        prog="pytxmr",
        description="MapReduce jobs as plain Python generators, on this machine or on a cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pytxmr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run a job, here or on a cluster, and wait for its end")
    _add_job(run)
    _add_run_options(run)

    submit = commands.add_parser("submit", help="queue a job on a cluster; prints its id")
    _add_job(submit)
    _add_job_options(submit)
    _add_cluster_options(submit)

    plan = commands.add_parser("plan", help="show the steps that a job takes, without running it")
    _add_job(plan)
    _add_inputs(plan)
    _add_names(plan)

    for name, text in (
        ("status", "how far a job is"),
        ("wait", "wait for a job's end, showing progress"),
        ("kill", "end a job; leaves nothing of it"),
        ("counters", "a job's counters, name<TAB>value a line"),
        ("destroy", "drop what is kept of an ended job: spills and logs"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("job", metavar="JOB", help="the job's id, as Job001")
        _add_cluster_options(command)
    logs = commands.add_parser("logs", help="what a job's attempts printed")
    logs.add_argument("job", metavar="JOB", help="the job's id, as Job001")
    logs.add_argument("--task", metavar="TASK", help="only this task, as Map001 or Reduce000")
    which = logs.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="leave out the attempts that counted")
    which.add_argument(
        "--follow", action="store_true", help="show what they print as they do, to the job's end"
    )
    _add_cluster_options(logs)
    jobs = commands.add_parser("jobs", help="the cluster's jobs, a line each")
    jobs.add_argument("--all", action="store_true", help="also those from before the last restart")
    _add_cluster_options(jobs)
    trackers = commands.add_parser("trackers", help="the cluster's tasktrackers, a line each")
    _add_cluster_options(trackers)

    new = commands.add_parser("new", help="write a job to begin with, its input and a test")
    new.add_argument("directory", metavar="NAME", help="the directory to make, named as the job")
    secret = commands.add_parser("secret", help="make a secret file for a cluster")
    secret.add_argument("file", metavar="FILE", help="where; it must not exist")
    token = commands.add_parser("token", help="the token that telnet wants from other machines")
    _add_secret_option(token)
    return parser


def settle_runner(options: argparse.Namespace) -> None:
    """Say where `pytxmr run` runs. Raises `BadConfiguration` for options that contradict that."""
    chosen: str = options.runner or ("cluster" if options.jobtracker else "")
    options.runner = chosen or ("cluster" if _environment("JOBTRACKER") else "local")
    for name in PLACES[chosen].senseless if chosen else ():
        if getattr(options, name):
            option = name.replace("_", "-")
            words = PLACES[chosen].words
            raise BadConfiguration(f"--{option} means nothing where the job runs {words}")
    if options.runner != "spark" and (options.master or options.spark_conf):
        option = "--master" if options.master else "--spark-conf"
        raise BadConfiguration(f"{option} is for a job that runs on Spark: add --runner spark")
    if options.runner == "cluster":
        options.jobtracker = options.jobtracker or _environment("JOBTRACKER")
        options.secret_file = options.secret_file or _environment("SECRET_FILE")


def build_program_parser(program: str, description: str) -> argparse.ArgumentParser:
    """The command line of ``run``, of a program that is a job itself."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run_options(parser)
    return parser


def parse(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    known: argparse.Namespace | None = None,
) -> argparse.Namespace:
    """Parse a command line, in which inputs may also stand after options; ``known`` is what is
    known without it. Ends the process as argparse does."""
    # As inputs may be none, argparse has none where an option comes first, and then calls them
    # unrecognized.
    options, rest = parser.parse_known_args(argv, known)
    before = rest[: rest.index("--")] if "--" in rest else rest
    if rest and (
        not hasattr(options, "inputs")
        or any(word.startswith("-") and word != "-" for word in before)
    ):
        _refuse(_parser_of(parser, options), rest)
    if rest:
        options.inputs += [*before, *rest[len(before) + 1 :]]
    return options


def parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The subcommands' parsers, by name, in their order."""
    return next((dict(it.choices or {}) for it in parser._actions if it.dest == "command"), {})


def _parser_of(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> argparse.ArgumentParser:
    return parsers(parser).get(options.command, parser)


def _refuse(parser: argparse.ArgumentParser, words: Sequence[str]) -> NoReturn:
    known = [option for action in parser._actions for option in action.option_strings]
    hints = (nearest(word.partition("=")[0], known) for word in words if word[:2] == "--")
    parser.error(f"unrecognized arguments: {' '.join(words)}{next(filter(None, hints), '')}")


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB.py[:CLASS]", help="the module, or a class in it")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    _add_job_options(parser)
    parser.add_argument(
        "--workers", type=positive, metavar="N",
        help="worker processes, when it runs here (default: one per core)",
    )  # fmt: skip
    parser.add_argument(
        "--runner", choices=tuple(PLACES),
        help="where it runs: inline, in this very process, so that breakpoint() works in the job; "
        "local, in worker processes of its own; cluster; spark, on Apache Spark (default: local, "
        "or cluster if there is a --jobtracker)",
    )  # fmt: skip
    parser.add_argument(
        "--master", metavar="URL",
        help="with --runner spark, where that runs: local[N], spark://HOST:PORT, yarn, k8s://... "
        "(default: what Spark's configuration says, or local[*])",
    )  # fmt: skip
    parser.add_argument(
        "--spark-conf", metavar="NAME=VALUE", type=definition, action="append", default=[],
        help="with --runner spark, a setting of Spark's, as spark.executor.memory=4g",
    )  # fmt: skip
    _add_cluster_options(parser, "run on this cluster instead of here")
    # Looked up when the runner is known: what is in the environment does not contradict --runner.
    parser.set_defaults(jobtracker=None, secret_file=None)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="*",
        help="files, directories, quoted globs or URLs; @FILE for those that are named in a file, "
        "one a line; - for standard input; NAME=INPUT for an input that the job has named "
        "(default: the class's input, if it has one)",
    )  # fmt: skip


def _add_job_options(parser: argparse.ArgumentParser) -> None:
    _add_inputs(parser)
    parser.add_argument(
        "--output", "-o", metavar="DIR",
        help="made by the job; must not exist; or a URL, as s3://BUCKET/DIR (default: the class's "
        "output, if it has one)",
    )  # fmt: skip
    parser.add_argument(
        "--reducers", type=number, metavar="N",
        help="reduce tasks, and so part files; 0: none, what each map puts out is a part file, in "
        "the order of the input (default: the class's reducers, or else the cluster's workers; 0 "
        "for a job without a reducer)",
    )  # fmt: skip
    parser.add_argument(
        "--split-size", type=size, metavar="SIZE",
        help="input of one map task, cut at a line's end (default: 48MiB at the most, on one "
        "machine 128MiB for a job with a combiner, evened out over the workers)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=size, metavar="SIZE",
        help="what a worker process plans by; what does not fit goes through files. One that takes "
        "more than twice that, and than 512MiB more, is killed (default: 256MiB, or what the "
        "tasktracker says)",
    )  # fmt: skip
    parser.add_argument(
        "--task-timeout", type=seconds, metavar="SECONDS", default=600,
        help="end an attempt that makes no progress for so long, and try again (default: 600; 0: "
        "never)",
    )  # fmt: skip
    parser.add_argument(
        "--codec", choices=("none", "lz4", "zstd"), default="none",
        help="compress what maps put out, on disk and between machines: worth it on networks of "
        "1 Gbit/s and below (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--compress", choices=("none", "gzip", "bzip2", "xz", "lz4", "zstd"), default="none",
        help="compress the output: part-00000.gz, ... (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--no-speculation", action="store_true",
        help="start no second attempt of a map that is slow on one machine and may not be on "
        "another",
    )  # fmt: skip
    parser.add_argument(
        "--skip-bad-records", type=positive, metavar="N", default=0,
        help="set up to N records aside, into DIR/_bad, at which the mapper raises or its process "
        "dies, and go on without them (default: the first fails the job)",
    )  # fmt: skip
    parser.add_argument(
        "--reuse", action="store_true",
        help="keep what maps and reduces put out, in .pytxmr-kept beside DIR, and run none again "
        "that a kept run has done: by the same code and parameters, on the same bytes",
    )  # fmt: skip
    parser.add_argument(
        "--reuse-dir", metavar="KEPT",
        help="the same, but in this directory, which every machine of a cluster has to see",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true",
        help="keep the spills for inspection, until `pytxmr destroy JOB`; when the job runs here, "
        "stay and serve them until Ctrl-C",
    )  # fmt: skip
    parser.add_argument(
        "--keep-steps", action="store_true",
        help="of a job of several steps, keep what they leave for each other, in DIR.steps",
    )  # fmt: skip
    some = parser.add_mutually_exclusive_group()
    some.add_argument(
        "--from", dest="from_", metavar="STEP", default="",
        help="run this step and those after it, on what an earlier run has kept of the others: its "
        "number, or the view that it stores, as `pytxmr plan` shows them",
    )  # fmt: skip
    some.add_argument(
        "--only", metavar="STEP", default="",
        help="run this step alone, in the same way",
    )  # fmt: skip
    parser.add_argument(
        "--steps", metavar="DIR", default="",
        help="where the steps' results are kept, instead of in DIR.steps beside the output",
    )  # fmt: skip
    _add_names(parser)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-D", dest="params", metavar="NAME=VALUE", type=definition, action="append", default=[],
        help="set a parameter that the job declares",
    )  # fmt: skip
    # Parameters with their types, from `pytxmr.run`: people type -D.
    parser.add_argument(
        "--values", dest="params", type=_literal_items, action="extend", help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--py-files", metavar="PATH,...", type=_paths, action="extend", default=[],
        help="modules (FILE.py), packages (DIR) and zips of both that the job imports; what lies "
        "next to it is found without",
    )  # fmt: skip
    parser.add_argument(
        "--file", dest="files", metavar="PATH[#NAME]", action="append", default=[],
        help='send a file along; the job finds it by pytxmr.side_file("NAME")',
    )  # fmt: skip
    parser.add_argument(
        "--archive", dest="archives", metavar="PATH[#NAME]", action="append", default=[],
        help="send a zip or tar along; the job finds the directory that it was unpacked into",
    )  # fmt: skip
    ready = {
        "reader": ", or a ready-made one: json, 'csv(header=True)', ...",
        "writer": ", or a ready-made one: json, csv, ...",
    }
    for role in ("mapper", "reducer", "combiner", "partitioner", "reader", "writer"):
        parser.add_argument(
            f"--{role}", metavar="NAME",
            help=f"the job's {role}{ready.get(role, '')} (default: the name {role})",
        )  # fmt: skip


def _add_cluster_options(
    parser: argparse.ArgumentParser, text: str = "where the jobtracker listens"
) -> None:
    parser.add_argument(
        "--jobtracker", metavar="ENDPOINT", default=_environment("JOBTRACKER"),
        help=f"{text}, as tcp:127.0.0.1:9000 (default: PYTXMR_JOBTRACKER)",
    )  # fmt: skip
    _add_secret_option(parser)


def _add_secret_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret-file", metavar="FILE", default=_environment("SECRET_FILE"),
        help="the cluster's secret (default: PYTXMR_SECRET_FILE)",
    )  # fmt: skip


def _environment(name: str) -> str | None:
    return os.environ.get(f"PYTXMR_{name}") or None
