"""Ready-made readers: what makes records of input files, so that no job has to.

A job names one as its reader, or the command line does: ``--reader json``,
``--reader 'csv(header=True)'``::

    from pytxmr import readers

    reader = readers.csv(header=True)

====================  ===================  ==================================================
reader                key                  value
====================  ===================  ==================================================
``text``              byte offset          a line, as str; the default
``bytes``             byte offset          a line, as bytes
``pairs``             text up to a tab     the rest of the line, as str; None without a tab
``msgpack``           a key as it was      its value, from the output of ``writers.msgpack``
``json``              byte offset          what the JSON of a line says
``csv``, ``tsv``      byte offset          a row: a list, or a dict if there is a header
``delimited(end)``    byte offset          what ends in ``end``: bytes, or str if that is str
``fixed(size)``       byte offset          ``size`` bytes
``parquet``           row number           a row, as dict
``arrow``             row number           a row, as dict
``whole``             path                 all of a file, as str
``whole_bytes``       path                 all of a file, as bytes
====================  ===================  ==================================================

They run without a Python call per record. A record that cannot be decoded is an error that names
file, offset and record, and counts as a bad record where these may be skipped.
"""

from pytxmr.records.arrowformats import Arrow, Parquet
from pytxmr.records.pairfile import PairReader
from pytxmr.records.rawreaders import Delimited, Fixed, Whole
from pytxmr.records.textreaders import Csv, Json, Lines, Pairs, Text

text = Text()
bytes = Lines()
pairs = Pairs()
msgpack = PairReader()
json = Json()
csv = Csv()
tsv = Csv(delimiter="\t", name="readers.tsv")
delimited = Delimited()
fixed = Fixed()
parquet = Parquet()
arrow = Arrow()
whole = Whole()
whole_bytes = Whole(as_text=False, name="readers.whole_bytes")
