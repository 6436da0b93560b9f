"""Ready-made writers: what makes part files of a reducer's pairs, so that no job has to.

A job names one as its writer, or the command line does: ``--writer json``,
``--writer 'csv(header=["word", "count"])'``::

    from pytxmr import writers

    writer = writers.json

==================  ==============================================================================
writer              a part file
==================  ==============================================================================
``text``            a line ``key<TAB>value`` a pair; the default
``values``          a line a value, without keys
``json``            a line of JSON a pair: ``[key, value]``; the value alone if the key is None
``csv``, ``tsv``    a row a pair: the columns of the key, then those of the value
``parquet``         a row a pair, from a dict, or as the columns ``key`` and ``value``
``msgpack``         pairs with their exact types, which ``readers.msgpack`` reads
==================  ==============================================================================
"""

from pytxmr.records.arrowformats import ParquetWriter
from pytxmr.records.pairfile import PairWriter
from pytxmr.records.textwriters import Csv, Json, Text, Values

text = Text()
values = Values()
json = Json()
csv = Csv()
tsv = Csv(delimiter="\t", name="writers.tsv")
parquet = ParquetWriter()
msgpack = PairWriter()
