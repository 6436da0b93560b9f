"""For each ship that is known: its flag, and its calls at the harbour, the first one first.

pytxmr run examples/harbour.py examples/data/ships.tsv examples/data/calls.tsv --output out

A line is the name of its relation, a tab, the key, a tab, and the rest of the row. Ships without
calls are there with none; calls of ships that are not known are left out.
"""

import pytxmr
from pytxmr import pipeline


def row(line):
    if line.count("\t") < 2:
        pytxmr.counter("bad lines")
        return
    yield line.split("\t", 2)


def rows_of(relation):
    return rows.filter(lambda row: row[0] == relation).map(lambda row: (row[1], row[2]))


def calls_in_order(name, calls):
    yield name, list(calls)


def one_line(pair):
    name, (ship, made) = pair
    flag, _ = ship.split("\t")
    return name, {"flag": flag, "calls": made or []}


rows = pipeline.input().flat_map(row)
ships = rows_of("ship")
calls = rows_of("call").group(calls_in_order, sort_by=str)
output = ships.join(calls, how="left").map(one_line)
