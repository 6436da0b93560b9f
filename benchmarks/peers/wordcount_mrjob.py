"""mrjob's own word count; `-r local --num-cores 2` runs it on two processes."""

from collections.abc import Iterable, Iterator

from mrjob.job import MRJob
from mrjob.protocol import TextProtocol


class WordCount(MRJob):
    OUTPUT_PROTOCOL = TextProtocol

    def mapper(self, _: None, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    def combiner(self, word: str, counts: Iterable[int]) -> Iterator[tuple[str, int]]:
        yield word, sum(counts)

    def reducer(self, word: str, counts: Iterable[int]) -> Iterator[tuple[str, str]]:
        yield word, str(sum(counts))


if __name__ == "__main__":
    WordCount.run()
