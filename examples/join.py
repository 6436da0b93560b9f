"""An inner join: every call of a ship at the harbour, with what is known of the ship.

pytxmr run examples/join.py examples/data/ships.tsv examples/data/calls.tsv --output out

A line is the name of its relation, a tab, the key, a tab, and the rest of the row. A key's rows
have to fit in memory. Keys that only one relation has are left out.
"""

from itertools import product

import pytxmr

params = {"left": "ship", "right": "call"}


def mapper(key, value):
    try:
        relation, shared, row = value.split("\t", 2)
    except ValueError:
        pytxmr.counter("bad lines")
        return
    if relation in (pytxmr.params["left"], pytxmr.params["right"]):
        yield shared, (relation, row)
    else:
        pytxmr.counter("bad lines")


def reducer(key, values):
    rows = {pytxmr.params["left"]: [], pytxmr.params["right"]: []}
    for relation, row in values:
        rows[relation].append(row)
    left, right = map(sorted, rows.values())
    for one, other in product(left, right):
        yield key, f"{one}\t{other}"
