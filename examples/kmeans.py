"""k-means: points in a plane, put into k clusters around k centres.

python examples/kmeans.py examples/data/points.csv out 3

Each round is a job. It gives every point to the centre that is nearest, and moves the centres into
the middle of their points. The first k points of the input are the first centres. Rounds go on
until no centre moves. Each leaves its centres, and how many points they have, in a directory:
``out/00``, ``out/01``, ...
"""

import json
import math
import sys
from itertools import islice

import pytxmr
from pytxmr import readers, writers


class Round(pytxmr.MapReduce):
    params = {"centres": "[]"}  # JSON: a list of [x, y]
    read = readers.csv
    write = writers.msgpack

    def map_init(self):
        self.centres = json.loads(self.params["centres"])

    def map(self, key, row):
        point = float(row[0]), float(row[1])
        distances = [math.dist(point, centre) for centre in self.centres]
        yield distances.index(min(distances)), (*point, 1)

    def combine(self, nearest, points):
        xs, ys, counts = zip(*points, strict=True)
        # fsum is exact, so that the order in which points come changes next to nothing.
        yield nearest, (math.fsum(xs), math.fsum(ys), sum(counts))

    def reduce(self, nearest, points):
        ((_, (x, y, count)),) = self.combine(nearest, points)
        yield nearest, (x / count, y / count, count)


def main(points, out, k, rounds=50):
    with open(points, encoding="utf-8") as file:
        centres = [[float(field) for field in line.split(",")] for line in islice(file, int(k))]
    for number in range(rounds):
        result = pytxmr.run(
            Round, points, f"{out}/{number:02}", params={"centres": json.dumps(centres)}
        )
        moved = list(centres)  # a centre without points stays where it is
        for nearest, (x, y, _) in result:
            moved[nearest] = [x, y]
        if max(map(math.dist, moved, centres)) < 1e-9:
            break
        centres = moved
    for nearest, (x, y, count) in sorted(result):
        print(f"{nearest}\t{x:.3f}\t{y:.3f}\t{count} points")


if __name__ == "__main__":
    main(*sys.argv[1:])
