"""PageRank: how often somebody who follows links for ever comes by each page, on average 1.

python examples/pagerank.py examples/data/graph.tsv out

A line is a page, a tab, and the pages that it links to, separated by spaces. The first job reads
the graph. Each round is one more: it reads the pages that the one before has put out, and hands the
rank of each on along its links. Rounds go on until the ranks change by less than 0.05 altogether.
"""

import math
import sys

import pytxmr
from pytxmr import readers, writers


class Graph(pytxmr.MapReduce):
    """Pairs (page, (rank, targets)), also of pages that are only linked to."""

    write = writers.msgpack

    def map(self, key, value):
        page, _, targets = value.partition("\t")
        yield page, targets.split()
        for target in targets.split():
            yield target, []

    def reduce(self, page, lists):
        yield page, (1.0, sorted(set().union(*lists)))


class Round(pytxmr.MapReduce):
    """Hands ranks on. ``adrift`` is what each page is given of the ranks that had no link to go."""

    params = {"damping": 0.85, "adrift": 0.0}
    read = readers.msgpack
    write = writers.msgpack

    def map(self, page, ranked):
        rank, targets = ranked
        yield page, targets
        for target in targets:
            yield target, (rank + self.params["adrift"]) / len(targets)

    def reduce(self, page, values):
        targets, shares = [], []
        for value in values:
            if isinstance(value, list):
                targets = value
            else:
                shares.append(value)
        damping = self.params["damping"]
        yield page, (1 - damping + damping * math.fsum(shares), targets)


def ranks_of(result):
    """Page to rank, and what is to be added to each for the ranks to be 1 on average."""
    ranks = {page: rank for page, (rank, targets) in result}
    return ranks, 1 - math.fsum(ranks.values()) / len(ranks)


def main(graph, out, rounds=100):
    result = pytxmr.run(Graph, graph, f"{out}/00")
    ranks, adrift = ranks_of(result)
    for number in range(1, rounds):
        before = {page: rank + adrift for page, rank in ranks.items()}
        result = pytxmr.run(Round, result.output, f"{out}/{number:02}", params={"adrift": adrift})
        ranks, adrift = ranks_of(result)
        if sum(abs(ranks[page] + adrift - before[page]) for page in ranks) < 0.05:
            break
    for page in sorted(ranks, key=ranks.get, reverse=True):
        print(f"{page}\t{ranks[page] + adrift:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
