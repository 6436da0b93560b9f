"""Every example gives what a plain loop over the same input gives.

The expected output is computed here without the engine and without the example's code. Examples run
in this process, by the command line; `test_every_feature` shows that they give the same elsewhere.
"""

from __future__ import annotations

import ast
import hashlib
import html
import importlib.util
import json
import math
import os
import random
import re
import runpy
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import datetime
from functools import partial
from itertools import combinations
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest

import pytxmr
from pytxmr.cli import main
from pytxmr.cli.commands import make_jobs
from pytxmr.cli.options import build_parser, parse

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"
NAMES = [
    "by_frequency",
    "grep",
    "harbour",
    "inverted_index",
    "join",
    "kmeans",
    "log_join",
    "near_duplicates",
    "ngrams",
    "pagerank",
    "reverse_links",
    "sessions",
    "sort",
    "sort_batch",
    "term_vector",
    "tf_idf",
    "top_words",
    "traffic",
    "url_frequency",
    "wordcount",
    "wordcount_batch",
]
# The processes started here test the pytxmr that this one tests, installed or in the checkout.
IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent
# `make test` sets the variable and installs the extra, so that there nothing is passed over.
BATCH_IS_HERE = "PYTXMR_TEST_INSTALLED" in os.environ or all(
    map(importlib.util.find_spec, ("numpy", "pyarrow"))
)
needs_batch = pytest.mark.skipif(not BATCH_IS_HERE, reason="the extra batch is not installed")
word_counts = pytest.mark.parametrize(
    "example", ["wordcount", pytest.param("wordcount_batch", marks=needs_batch)]
)
REDUCERS = 3
RUN_SECONDS = 100


def run(
    tmp_path: Path, example: str, *inputs: Path | str, split_size: str, options=(), parts=REDUCERS
) -> list[bytes]:
    """Run an example with three reducers; returns the bytes of its ``parts``, in order."""
    out = tmp_path / "out"
    command = ["run", "--runner", "inline", EXAMPLES / f"{example}.py", *inputs]
    command += ["--output", out, "--reducers", str(REDUCERS), "--split-size", split_size]
    assert main([os.fspath(word) for word in [*command, *options]]) == 0
    found = sorted(out.glob("part-*"))
    assert [part.name for part in found] == [f"part-{n:05}" for n in range(parts)]
    assert (out / "_SUCCESS").exists()
    return [part.read_bytes() for part in found]


def run_script(tmp_path: Path, example: str, *words: object) -> str:
    """Run an example that runs several jobs, into ``out``; returns what it prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{example}.py", *map(str, words)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.fspath(IMPORTED_FROM)},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def text_lines(parts: list[bytes]) -> list[str]:
    return b"".join(parts).decode().split("\n")[:-1]


def pairs(parts: list[bytes]) -> dict[str, str]:
    """Key to value of all parts; within a part keys must be in order, and no key comes twice."""
    found: dict[str, str] = {}
    for part in parts:
        text = part.decode(errors="surrogateescape")
        in_part = [line.partition("\t") for line in text.split("\n")[:-1]]
        keys = [key for key, tab, value in in_part]
        assert keys == sorted(set(keys))
        assert not found.keys() & set(keys)
        found.update((key, value) for key, tab, value in in_part)
    return found


def json_pairs(parts: list[bytes]) -> dict[str, object]:
    return {key: json.loads(value) for key, value in pairs(parts).items()}


def lines_of(*paths: Path) -> list[str]:
    """All lines without their ends; every file must end in a newline."""
    lines = []
    for path in paths:
        text = path.read_bytes().decode(errors="surrogateescape")
        assert text.endswith("\n")
        lines += text.split("\n")[:-1]
    return lines


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """(byte offset, line) of each line of an ASCII file."""
    found, offset = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        found.append((offset, line.decode("ascii").rstrip("\n")))
        offset += len(line)
    return found


def fields(path: Path) -> list[tuple[str, str]]:
    """The lines that have a tab, cut at the first one."""
    return [tuple(line.split("\t", 1)) for line in lines_of(path) if "\t" in line]


@word_counts
def test_wordcount_of_war_and_peace_is_that_of_a_counter(tmp_path, example):
    book = DATA / "warandpeace.txt"
    expected = Counter(book.read_text("ascii").lower().split())
    parts = run(tmp_path, example, book, split_size="512KiB")
    assert {word: int(count) for word, count in pairs(parts).items()} == expected
    assert all(parts)


@word_counts
def test_wordcount_of_any_bytes_is_that_of_a_counter(tmp_path, example):
    rng = random.Random(21)
    words = ["A", "aB", "É", "é", "ÀÉ", "Σας", "ΣΑΣ", "İ", "ǅ", "ß", "\x00", "x\x01x", "word"]
    blanks = [*" \t\v\f\r\n\x1c\x1f\x85\xa0\u2003\u2028\u3000", "  ", "\r\n", " \n\n", ""]
    broken = [b"\xff", b"\xc3", b"\xe2\x82", b"caf\xe9", b"\xed\xa0\x80"]
    pool = [*(text.encode() for text in words + 4 * blanks), *broken]
    data = b"".join(rng.choices(pool, k=50_000))
    files = [tmp_path / name for name in ("no end", "blank end", "blank", "empty", "spaces")]
    for path, content in zip(files, [data + b"end", data + b" \n", b"\n", b"", b"  "], strict=True):
        path.write_bytes(content)
    expected = Counter()
    for path in files:
        text = path.read_bytes().decode(errors="surrogateescape")
        expected.update(word.lower() for word in text.split())
    parts = run(tmp_path, example, *files, split_size="16KiB")
    assert {word: int(count) for word, count in pairs(parts).items()} == expected


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        (r"\bNapoleon\b", []),
        (r"\bhorses?\b", ["-D", r"pattern=\bhorses?\b"]),
        (r"(?i)no line, surely, says = this", ["-D", "pattern=(?i)no line, surely, says = this"]),
    ],
    ids=["default", "given", "no match"],
)
def test_grep_lists_matching_lines_in_the_order_of_the_file(tmp_path, pattern, options):
    book = DATA / "warandpeace.txt"
    hits = [f"{at}\t{line}\n" for at, line in numbered_lines(book) if re.search(pattern, line)]
    assert bool(hits) == ("surely" not in pattern)
    parts = run(tmp_path, "grep", book, split_size="512KiB", options=options)
    assert b"".join(parts).decode("ascii").splitlines(keepends=True) == hits


def test_grep_keeps_every_line_when_files_have_lines_at_equal_offsets(tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    files[0].write_text("Napoleon, twice\nnobody\nNapoleon in a\n")
    files[1].write_text("Napoleon, twice\nnobody\nNapoleon in b\n")
    parts = run(tmp_path, "grep", *files, split_size="1MiB")
    assert b"".join(parts).decode("ascii").splitlines() == [
        "0\tNapoleon, twice",
        "0\tNapoleon, twice",
        "23\tNapoleon in a",
        "23\tNapoleon in b",
    ]


def test_url_frequency_counts_well_formed_lines_only(tmp_path):
    log = DATA / "access.log"
    quoted = [line.split('"') for line in lines_of(log)]
    requests = [pieces[1].split() for pieces in quoted if len(pieces) > 2]
    expected = Counter(request[1] for request in requests if len(request) > 1)
    malformed = len(quoted) - expected.total()
    assert malformed == 3
    parts = run(tmp_path, "url_frequency", log, split_size="512")
    assert {url: int(count) for url, count in pairs(parts).items()} == expected


def test_reverse_links_lists_the_sorted_sources_of_each_target(tmp_path):
    sources = defaultdict(set)
    for source, page in fields(DATA / "links.tsv"):
        if "<" in page:
            page = re.sub(r"<!--.*?-->", "", page)
            anchors = re.findall(r"<a\s[^>]*>", page, re.IGNORECASE)
            hrefs = [re.search(r"href=(\"[^\"]*\"|'[^']*'|[^\s>]+)", a, re.I) for a in anchors]
            links = [html.unescape(href[1].strip("\"'")) for href in hrefs if href]
        else:
            links = page.split()
        for link in filter(None, links):
            if "[" not in link and not link.startswith(("mailto:", "javascript:")):
                sources[urldefrag(urljoin(source, link))[0]].add(source)
    parts = run(tmp_path, "reverse_links", DATA / "links.tsv", split_size="512")
    found = json_pairs(parts)
    assert found == {target: sorted(found_in) for target, found_in in sources.items()}
    assert found["https://blog.example.org/2024/launch"] == [
        "https://blog.example.org/",
        "https://blog.example.org/2024/gulls",
        "https://blog.example.org/2024/storm",
    ]


@pytest.mark.parametrize(
    ("terms", "options"), [(10, []), (3, ["-D", "terms=3"])], ids=["default", "given"]
)
def test_term_vector_ranks_the_words_of_each_host(tmp_path, terms, options):
    words = defaultdict(list)
    for url, text in fields(DATA / "pages.tsv"):
        authority = re.match(r"\w+://(?:[^/@]*@)?([\w.-]+)", url)
        if authority:
            words[authority[1].lower()] += re.sub(r"[\W\d_]", " ", text.lower()).split()
    expected = {}
    for host, of_host in words.items():
        alphabetical = sorted(set(of_host))
        ranked = sorted(alphabetical, key=of_host.count, reverse=True)
        expected[host] = [[word, of_host.count(word)] for word in ranked[:terms]]
    parts = run(tmp_path, "term_vector", DATA / "pages.tsv", split_size="512", options=options)
    found = json_pairs(parts)
    assert found == expected
    assert found["maps.example.com"][:2] == [["the", 4], ["chart", 3]]


def test_inverted_index_lists_the_sorted_documents_of_each_word(tmp_path):
    documents = defaultdict(set)
    for document, text in fields(DATA / "documents.tsv"):
        for word in "".join(c if c.isalnum() else " " for c in text.lower()).split():
            documents[word].add(document)
    parts = run(tmp_path, "inverted_index", DATA / "documents.tsv", split_size="256")
    found = json_pairs(parts)
    assert found == {word: sorted(found_in) for word, found_in in documents.items()}
    assert found["oak"] == ["minutes-may", "receipt-17"]
    assert found["över"] == ["song"]


@pytest.mark.parametrize("example", ["sort", "sort_batch"])
def test_sort_orders_the_lines_across_the_parts_and_keeps_duplicates(tmp_path, example):
    lines = lines_of(DATA / "unsorted.txt")
    assert "" in lines
    assert len(set(lines)) < len(lines)
    parts = run(tmp_path, example, DATA / "unsorted.txt", split_size="512")
    assert b"".join(parts).decode().split("\n")[:-1] == sorted(lines)
    assert sum(map(bool, parts)) >= 2


def test_sort_spreads_a_larger_input_and_carries_undecodable_bytes(tmp_path):
    rng = random.Random(20)
    alphabet = [bytes([c]) for c in b"abcxyzABC 019\t"] + ["é".encode(), b"\xe9", b"\xff"]
    lines = [b"".join(rng.choices(alphabet, k=rng.randrange(9))) for _ in range(20_000)]
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\n".join(lines) + b"\n")
    parts = run(tmp_path, "sort", path, split_size="16KiB")
    ordered = sorted(lines, key=lambda line: line.decode(errors="surrogateescape"))
    assert b"".join(parts) == b"\n".join(ordered) + b"\n"
    assert sum(map(bool, parts)) >= 2


def test_sort_batch_orders_any_lines_by_their_bytes(tmp_path):
    rng = random.Random(22)
    alphabet = [bytes([c]) for c in b"abcxyzABC 019\t\r"] + ["é".encode(), b"\xe9", b"\xff"]
    lines = [b"".join(rng.choices(alphabet, k=rng.randrange(9))) + b"." for _ in range(20_000)]
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\n".join(lines) + b"\n")
    parts = run(tmp_path, "sort_batch", path, split_size="16KiB")
    assert b"".join(parts) == b"\n".join(sorted(lines)) + b"\n"
    assert sum(map(bool, parts)) >= 2


def test_join_pairs_the_rows_that_share_a_key(tmp_path):
    relations = defaultdict(list)
    for relation, row in fields(DATA / "ships.tsv") + fields(DATA / "calls.tsv"):
        relations[relation].append(row.split("\t", 1))
    expected = [
        f"{name}\t{ship}\t{call}"
        for name, ship in relations["ship"]
        for called, call in relations["call"]
        if called == name
    ]
    parts = run(tmp_path, "join", DATA / "ships.tsv", DATA / "calls.tsv", split_size="128")
    found = [part.decode().split("\n")[:-1] for part in parts]
    assert sorted(sum(found, [])) == sorted(expected)
    assert all(in_part == sorted(in_part) for in_part in found)
    assert "Dagny\tDenmark\tferry\t2024-04-04\tpier 1" in expected
    assert not any(line.startswith(("Fram", "Halcyon")) for line in expected)


def test_harbour_joins_ships_with_their_calls_in_order(tmp_path):
    rows = fields(DATA / "ships.tsv") + fields(DATA / "calls.tsv")
    ships = dict(row.split("\t", 1) for relation, row in rows if relation == "ship")
    calls = [row.split("\t", 1) for relation, row in rows if relation == "call"]
    expected = {
        name: {
            "flag": ship.split("\t")[0],
            "calls": sorted(call for called, call in calls if called == name),
        }
        for name, ship in ships.items()
    }
    parts = run(tmp_path, "harbour", DATA / "ships.tsv", DATA / "calls.tsv", split_size="128")
    assert json_pairs(parts) == expected
    assert expected["Fram"]["calls"] == []
    assert len(expected["Dagny"]["calls"]) == 3


def test_tf_idf_weighs_words_as_a_loop_does(tmp_path):
    texts = defaultdict(Counter)
    for name, text in fields(DATA / "documents.tsv"):
        texts[name].update(re.findall(r"\w+", text.lower()))
    having = Counter(word for words in texts.values() for word in words)
    expected = {}
    for name, words in texts.items():
        weights = [
            (times * math.log(len(texts) / having[word]), word) for word, times in words.items()
        ]
        if weights:
            expected[name] = [word for weight, word in sorted(weights, reverse=True)[:3]]
    parts = run(tmp_path, "tf_idf", DATA / "documents.tsv", split_size="256")
    assert json_pairs(parts) == expected
    assert expected["song"][:2] == ["över", "bron"]


def test_top_words_are_those_of_a_counter(tmp_path):
    book = DATA / "warandpeace.txt"
    lines = book.read_text("ascii").lower().split("\n")
    counted = Counter(word for line in lines for word in set(line.split()))
    parts = run(tmp_path, "top_words", book, split_size="512KiB", parts=1)
    found = [line.split("\t") for line in parts[0].decode().splitlines()]
    assert [(word, int(count)) for word, count in found] == counted.most_common(10)


def test_by_frequency_orders_all_words_over_all_parts(tmp_path):
    book = DATA / "warandpeace.txt"
    counted = Counter(book.read_text("ascii").lower().split())
    parts = run(tmp_path, "by_frequency", book, split_size="512KiB")
    found = [line.split("\t") for line in text_lines(parts)]
    expected = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    assert [(word, int(count)) for word, count in found] == expected
    assert max(part.count(b"\n") for part in parts) < 1.3 * len(expected) / REDUCERS


def requests() -> list[tuple[str, datetime, str]]:
    """Host, time, and method with URL, of each well-formed line of the access log."""
    found = []
    for line in lines_of(DATA / "access.log"):
        head, quote, rest = line.partition('] "')
        method, *url = rest.split('"')[0].split()[:2] or [""]
        if quote and method.isalpha():
            host, *_, time, zone = head.split()
            moment = datetime.strptime(f"{time} {zone}", "[%d/%b/%Y:%H:%M:%S %z")
            found.append((host, moment, " ".join([method, *url])))
    return found


@pytest.mark.parametrize(
    ("minutes", "options"), [(30, []), (10, ["-D", "minutes=10"])], ids=["default", "given"]
)
def test_sessions_end_where_a_host_was_silent(tmp_path, minutes, options):
    times = defaultdict(list)
    for host, time, _ in requests():
        times[host].append(time.timestamp())
    expected = []
    for host, of_host in times.items():
        of_host.sort()
        gaps = [b - a > 60 * minutes for a, b in zip(of_host, of_host[1:], strict=False)]
        cuts = [0, *(at for at, gap in enumerate(gaps, 1) if gap), len(of_host)]
        for begin, end in zip(cuts, cuts[1:], strict=False):
            first, last = of_host[begin], of_host[end - 1]
            expected.append((host, first, last - first, end - begin))
    parts = run(tmp_path, "sessions", DATA / "access.log", split_size="512", options=options)
    found = []
    for line in text_lines(parts):
        host, session = line.split("\t")
        start, seconds, count = json.loads(session)
        found.append((host, datetime.fromisoformat(start).timestamp(), seconds, count))
    assert sorted(found) == sorted(expected)
    assert len(found) > len(times)


def test_traffic_is_that_of_the_hosts_owners(tmp_path):
    owners = dict(line.split("\t") for line in lines_of(DATA / "hosts.tsv"))
    expected = Counter(owners.get(host, "unknown") for host, _, _ in requests())
    inputs = [DATA / "access.log", f"hosts={DATA / 'hosts.tsv'}"]
    found = pairs(run(tmp_path, "traffic", *inputs, split_size="512"))
    assert {owner: int(count) for owner, count in found.items()} == expected
    assert expected["harbour office"] == 14
    assert expected["unknown"] > 0


@pytest.mark.parametrize(
    ("n", "least", "options"),
    [(3, 10, []), (2, 100, ["-D", "n=2", "-D", "least=100"])],
    ids=["default", "given"],
)
def test_ngrams_counts_the_words_that_follow_each_other(tmp_path, n, least, options):
    book = tmp_path / "tenth.txt"
    lines = (DATA / "warandpeace.txt").read_bytes().splitlines(keepends=True)
    book.write_bytes(b"".join(lines[:6700]))
    counts = Counter()
    for line in lines_of(book):
        words = re.sub("[^a-z]", " ", line.lower()).split()
        counts.update(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
    expected = {ngram: count for ngram, count in counts.items() if count >= least}
    parts = run(tmp_path, "ngrams", book, split_size="64KiB", options=options)
    assert {ngram: int(count) for ngram, count in pairs(parts).items()} == expected
    assert expected


def similar_pairs(lines: list[str], similar: float) -> list[tuple[float, list[str]]]:
    """Each line compared with all others."""
    found = []
    texts = [" ".join(re.sub(r"\W", " ", line.lower()).split()) for line in lines]
    sets = [{text[at : at + 4] for at in range(max(len(text) - 3, 1))} for text in texts]
    for one, other in combinations([at for at, text in enumerate(texts) if text], 2):
        index = len(sets[one] & sets[other]) / len(sets[one] | sets[other])
        if index >= similar:
            found.append((round(index, 3), [lines[one], lines[other]]))
    return sorted(found)


@pytest.mark.parametrize(
    ("similar", "options"), [(0.7, []), (0.9, ["-D", "similar=0.9"])], ids=["default", "given"]
)
def test_near_duplicates_finds_the_pairs_that_comparing_all_lines_finds(tmp_path, similar, options):
    expected = similar_pairs(lines_of(DATA / "notices.txt"), similar)
    path = DATA / "notices.txt"
    parts = run(tmp_path, "near_duplicates", path, split_size="256", options=options)
    found = [line.split("\t") for line in text_lines(parts)]
    assert sorted((float(index), lines) for index, *lines in found) == expected
    assert expected


def test_near_duplicates_misses_no_pair_of_many_lines_at_any_threshold(tmp_path):
    rng = random.Random(23)
    lines = ["".join(rng.choices("ab ", k=rng.randrange(4, 30))) for _ in range(150)]
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    for number, similar in enumerate((0.2, 0.55, 1.0)):
        place = tmp_path / str(number)
        place.mkdir()
        options = ["-D", f"similar={similar}"]
        parts = run(place, "near_duplicates", path, split_size="512", options=options)
        found = [line.split("\t") for line in text_lines(parts)]
        expected = similar_pairs(lines, similar)
        assert sorted((float(index), pair) for index, *pair in found) == expected
        assert expected


def test_log_join_finds_the_last_request_before_each_error(tmp_path):
    errors = []
    for line in lines_of(DATA / "errors.log"):
        if " error [client " in line:
            time, _, _, host, message = line.replace("]", "").split(" ", 4)
            errors.append((datetime.fromisoformat(time), host, message))
    expected = []
    for time, host, message in errors:
        before = [(at, what) for who, at, what in requests() if who == host and at <= time]
        expected.append(f"{host}\t{max(before)[1] if before else '-'}\t{message}")
    logs = [DATA / "access.log", DATA / "errors.log"]
    parts = run(tmp_path, "log_join", *logs, split_size="512")
    assert sorted(text_lines(parts)) == sorted(expected)
    assert sum("\t-\t" in line for line in expected) == 1


def test_kmeans_ends_with_the_clusters_of_a_plain_loop(tmp_path):
    points = [tuple(map(float, line.split(","))) for line in lines_of(DATA / "points.csv")]
    centres, before = points[:3], []
    while centres != before:
        before, clusters = centres, defaultdict(list)
        for point in points:
            distances = [math.dist(point, centre) for centre in centres]
            clusters[distances.index(min(distances))].append(point)
        columns = [zip(*clusters[at], strict=True) for at in range(3)]
        centres = [tuple(sum(column) / len(column) for column in both) for both in columns]
    printed = run_script(tmp_path, "kmeans", DATA / "points.csv", "out", 3)
    assert printed.splitlines() == [
        f"{at}\t{x:.3f}\t{y:.3f}\t{len(clusters[at])} points" for at, (x, y) in enumerate(centres)
    ]


def test_pagerank_comes_near_the_ranks_of_a_plain_loop(tmp_path, monkeypatch, capsys):
    links = {page: targets.split() for page, targets in fields(DATA / "graph.tsv")}
    pages = links.keys() | set(sum(links.values(), []))
    assert pages > links.keys()  # some page has no links
    ranks = dict.fromkeys(pages, 1.0)
    for _ in range(200):
        lost = sum(rank for page, rank in ranks.items() if page not in links)
        new = dict.fromkeys(pages, 0.15 + 0.85 * lost / len(pages))
        for page, targets in links.items():
            for target in targets:
                new[target] += 0.85 * ranks[page] / len(targets)
        ranks = new
    words = ["pagerank.py", os.fspath(DATA / "graph.tsv"), os.fspath(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(pytxmr, "run", partial(pytxmr.run, runner="inline"))
    runpy.run_path(os.fspath(EXAMPLES / "pagerank.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    found = {page: float(rank) for page, rank in map(str.split, printed)}
    assert found.keys() == pages
    assert list(found.values()) == sorted(found.values(), reverse=True)
    # Rounds end when one changes less than 0.05, and each changes at most 0.85 of the one before.
    far = sum(abs(found[page] - ranks[page]) for page in pages)
    assert far < 0.05 * 0.85 / 0.15 + 0.0005 * len(pages)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_it_computes_and_how_to_run_it(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    source = (EXAMPLES / f"{name}.py").read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(source)).splitlines()
    assert docstring[0].endswith(".")
    lines = [line.removeprefix("pytxmr run ").removeprefix("python ") for line in docstring]
    commands = [shlex.split(line) for line in lines if line.startswith("examples/")]
    assert commands
    for line in docstring:
        if line.startswith("pytxmr run ") and (BATCH_IS_HERE or not name.endswith("_batch")):
            assert make_jobs(parse(build_parser(), shlex.split(line)[1:]))
    for command in commands:
        assert command[0] == f"examples/{name}.py"
        end = command.index("out")
        for path in [ROOT / word.rpartition("=")[2] for word in command[1:end] if word[0] != "-"]:
            assert path.parent == DATA
            assert path.is_file()


def test_every_example_is_tested():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == NAMES


def test_war_and_peace_has_the_digest_that_is_noted_beside_it():
    noted = re.search(r"sha256: ([0-9a-f]{64})", (DATA / "README.md").read_text("utf-8"))[1]
    assert hashlib.sha256((DATA / "warandpeace.txt").read_bytes()).hexdigest() == noted
