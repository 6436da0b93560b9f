"""Draws the ratios, each with the most that it may be: plot.py FILE.svg, rows as JSON on stdin."""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib

matplotlib.use("svg")
# The same rows give the same file.
matplotlib.rcParams["svg.hashsalt"] = "pytxmr"
matplotlib.rcParams["font.size"] = 9

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

MET, MISSED, NO_TARGET = "#3b7a57", "#b5482f", "#8a8a8a"


def colour(row: dict[str, Any]) -> str:
    if row["target"] is None:
        return NO_TARGET
    return MET if row["ratio"] <= row["target"] else MISSED


def main() -> None:
    rows = json.load(sys.stdin)
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.3 * len(rows)), layout="constrained")
    places = range(len(rows))
    axes.barh(places, [row["ratio"] for row in rows], color=list(map(colour, rows)), height=0.6)
    for place, row in zip(places, rows, strict=True):
        if row["target"] is not None:
            line = [place - 0.42, place + 0.42]
            axes.plot([row["target"]] * 2, line, color="black", linewidth=1.5)
        axes.annotate(
            f"{row['ratio']:.2f}",
            (max(row["ratio"], row["target"] or 0), place),
            textcoords="offset points",
            xytext=(3, 0),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("time of pytxmr / time of the reference; black: the most that is wanted")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(sys.argv[1], metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
