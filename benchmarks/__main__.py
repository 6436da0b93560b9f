"""python -m benchmarks [--rows NAME,...] [--runs N] [--scale X]; see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import HERE, Bench
from benchmarks.environments import CHECKOUT, Environments, Unavailable, first_line
from benchmarks.inputs import Inputs
from benchmarks.measure import Failed, Runner, anonymous
from benchmarks.page import PLOT, page
from benchmarks.results import Result, Results, machine, now, revision
from benchmarks.rows import ROWS, Row

BUILD = CHECKOUT / "build" / "bench"


def main() -> int:
    """The exit status: 1 if outputs differ or a command of pytxmr's fails, 2 for wrong options."""
    options = _parser().parse_args()
    if options.rows == "list":
        for row in ROWS:
            print(f"{row.name:24} {row.work}" + (f" / {row.against}" if row.against else ""))
        return 0
    wanted = [part for part in options.rows.split(",") if part]
    unknown = [part for part in wanted if not any(part in row.name for row in ROWS)]
    if unknown or options.runs < 1 or options.scale <= 0:
        problem = f"no row is named {', '.join(unknown)}" if unknown else "nothing to run"
        print(f"{problem}; --rows list names the rows", file=sys.stderr)
        return 2
    rows = [row for row in ROWS if not wanted or any(part in row.name for part in wanted)]
    docs = CHECKOUT / "docs" if options.scale == 1 else BUILD / "trial"
    docs.mkdir(parents=True, exist_ok=True)
    runner = Runner(BUILD / "run")
    bench = Bench(
        Inputs(BUILD / "inputs", options.scale),
        Environments(BUILD / "envs"),
        runner,
        options.scale,
    )
    results = Results(docs / "benchmarks.json")
    failed = 0
    missing = []
    try:
        bench.environments.python("pytxmr")
        for row in rows:
            result, is_ours = _measured(bench, row, options.runs)
            failed += is_ours
            if result.error is not None:
                missing.append(row.name)
            results.add(result, [row.name for row in ROWS])
            _write_page(bench, docs, results)
    except Unavailable as error:
        print(f"pytxmr {error}", file=sys.stderr)
        return 1
    finally:
        runner.close()
    print(f"{docs / 'benchmarks.md'}: {len(rows)} rows, {failed} failed", file=sys.stderr)
    if missing:
        print(f"without a result: {', '.join(missing)}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "--rows", default="", metavar="NAME,...", help="rows whose names contain one; or `list`"
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each side (default 5)")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="X",
        help="inputs of X times the size, to try things out; results go to build/bench/trial",
    )  # fmt: skip
    return parser


def _measured(bench: Bench, row: Row, runs: int) -> tuple[Result, bool]:
    """A row's result, and whether there is none by our own fault."""
    print(f"{row.name}: {row.work} / {row.against}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    described = {"measured": now(), "machine": machine()}
    try:
        measured = row.measure(bench, min(runs, row.most_runs or runs))
        versions = _versions(bench, row)
    except (Failed, Unavailable) as error:
        reason = anonymous(str(error))
        print(f"  no result: {reason}", file=sys.stderr, flush=True)
        result = Result(row.name, None, error=reason, **described)  # type: ignore[arg-type]
        return result, isinstance(error, Failed)
    result = Result(
        row.name,
        measured.figure,
        measured.ours,
        measured.reference,
        measured.notes,
        measured.raw,
        versions=versions,
        **described,  # type: ignore[arg-type]
    )
    verdict = ""
    if row.target is not None:
        met = "met" if row.met(measured.figure) else "MISSED"
        verdict = f", wanted {row.target:g}: {met}"
    seconds = time.perf_counter() - began
    said = f"  {measured.figure:.3g} {row.unit}{verdict} ({seconds:.0f} s)"
    print(said, file=sys.stderr, flush=True)
    return result, False


def _versions(bench: Bench, row: Row) -> dict[str, str]:
    versions = bench.environments.versions("pytxmr")
    shown = ("pytxmr", "twisted", "msgpack", "lz4", "zstandard", "xxhash", "pyarrow", "polars")
    kept = {name: versions[name] for name in shown if name in versions}
    kept["pytxmr"] = " ".join(filter(None, (kept["pytxmr"], revision())))
    if row.peer is not None:
        theirs = bench.environments.versions(row.peer)
        # What both sides have may differ in version.
        kept |= {name if name not in kept else f"its {name}": theirs[name] for name in theirs}
    if row.program is not None:
        kept[row.program] = first_line(row.program, "--version")
    return kept


def _write_page(bench: Bench, docs: Path, results: Results) -> None:
    plotted = _plot(bench, docs / PLOT, results)
    (docs / "benchmarks.md").write_text(page(ROWS, results.by_name, plotted), encoding="utf-8")


def _plot(bench: Bench, path: Path, results: Results) -> bool:
    """Draw the ratios that there are; False if there are none, or nothing to draw them with."""
    kept = results.by_name
    rows = [
        {"name": row.name, "ratio": kept[row.name].figure, "target": row.target}
        for row in ROWS
        if row.unit == "ratio" and row.name in kept and kept[row.name].figure is not None
    ]
    if not rows:
        return False
    try:
        python = bench.environments.python("matplotlib")
    except Unavailable as error:
        print(f"  no plot: matplotlib {anonymous(str(error))}", file=sys.stderr)
        return False
    subprocess.run([python, HERE / "plot.py", path], input=json.dumps(rows), text=True, check=True)
    return True


if __name__ == "__main__":
    raise SystemExit(main())
