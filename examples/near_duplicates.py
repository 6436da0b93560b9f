"""Lines that are nearly the same: each pair of them, after how similar the two are.

pytxmr run examples/near_duplicates.py examples/data/notices.txt --output out
pytxmr run examples/near_duplicates.py examples/data/notices.txt --output out -D similar=0.9

A line is the set of its shingles: what is seen of it, whatever its case and punctuation, through a
window of some characters. Two sets are as similar as they share shingles, of all that they have
(Jaccard's index).

To compare each line with all others takes too long. But of two sets that are similar enough, the
smallest shingle that both have is near the beginning of each, so only lines with equal beginnings
are compared. Nothing is missed by that (Chaudhuri et al., "A Primitive Operator for Similarity
Joins in Data Cleaning", 2006).
"""

import re
from itertools import combinations

import pytxmr

params = {"similar": 0.7, "window": 4}


def shingles(line):
    text = " ".join(re.findall(r"\w+", line.lower()))
    size = pytxmr.params["window"]
    return {text[at : at + size] for at in range(max(1, len(text) - size + 1))} if text else set()


def mapper(key, value):
    found = sorted(shingles(value))
    for at, shingle in enumerate(found):
        if (len(found) - at) / len(found) < pytxmr.params["similar"]:
            break  # two lines whose smallest common shingle comes here cannot share enough
        yield shingle, (key, value)


def reducer(shingle, lines):
    found = [(at, line, shingles(line)) for at, line in sorted(lines)]
    for (_, one, ours), (_, other, theirs) in combinations(found, 2):
        common = ours & theirs
        # A pair meets at several shingles. The first of them tells of it.
        if shingle == min(common):
            similarity = len(common) / len(ours | theirs)
            if similarity >= pytxmr.params["similar"]:
                yield round(similarity, 3), f"{one}\t{other}"
