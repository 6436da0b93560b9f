"""The reverse web-link graph: for each page linked to, the sorted list of pages that link to it.

pytxmr run examples/reverse_links.py examples/data/links.tsv --output out

A line is a page's URL, a tab, then either its HTML or its links, separated by spaces. Relative
links are resolved against the page's URL, and ``#fragments`` are cut off.
"""

from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

import pytxmr
from pytxmr import folds


class Anchors(HTMLParser):
    """Collects the ``href`` of every ``<a>`` it is fed, in `links`."""

    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attrs):
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.links.append(href)


def links_of(page):
    if "<" not in page:
        return page.split()
    anchors = Anchors()
    anchors.feed(page)
    anchors.close()
    return anchors.links


def mapper(key, value):
    source, tab, page = value.partition("\t")
    if not tab:
        pytxmr.counter("bad lines")
        return
    for link in links_of(page):
        try:
            target = urldefrag(urljoin(source, link.strip())).url
        except ValueError:  # such as http://[half-an-address
            pytxmr.counter("bad links")
            continue
        if target.startswith(("http://", "https://")):
            yield target, source


combiner = folds.distinct  # makes a set of the values of a key


def reducer(key, values):  # values: sets
    yield key, sorted(set().union(*values))
