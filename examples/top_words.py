"""The ten words that come in most lines of a text, with how often: two steps.

pytxmr run examples/top_words.py examples/data/warandpeace.txt --output out
pytxmr plan examples/top_words.py examples/data/warandpeace.txt
"""

from pytxmr import pipeline


def words(line):
    return set(line.lower().split())


lines = pipeline.input()
counts = lines.flat_map(words).count()
output = counts.top(10)
