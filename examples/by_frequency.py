"""All words of a text with their counts, the most frequent first, over all parts: two steps.

pytxmr run examples/by_frequency.py examples/data/warandpeace.txt --output out
pytxmr plan examples/by_frequency.py examples/data/warandpeace.txt

The parts, one after the other, are in order: each reducer of the second step has a range of counts.
Words that are there equally often come in the order of the alphabet.
"""

from pytxmr import pipeline


def often_first(pair):
    word, times = pair
    return -times, word


words = pipeline.input().flat_map(lambda line: line.lower().split())
output = words.count().sort_by(often_first)
