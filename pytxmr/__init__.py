"""MapReduce for Python programmers: jobs are plain modules of generators.

What a job module may use is here; nothing of this imports Twisted, so that it costs a worker
process next to nothing:

- ``pytxmr.params["name"]``: the job's parameters, declared by ``params = {...}`` in the module
- ``pytxmr.counter("bad lines")``: count something, summed over the whole job
- ``pytxmr.status("...")``: say what this attempt is doing
- ``pytxmr.side_file("NAME")``: the path of a file that was sent along with the job
- ``pytxmr.MapReduce``: the base of jobs written as a class
- ``pytxmr.RangePartitioner()``: a partitioner that makes the parts, in order, globally sorted
- ``pytxmr.folds``: ready-made combiners and reducers, such as ``folds.sum``
- ``pytxmr.identity``: the reducer that hands on every pair as it came
- ``pytxmr.batch``, ``pytxmr.columns``, ``pytxmr.Groups``: mappers and reducers that take many
  records at a time
"""

from pytxmr.job.context import counter, params, side_file, status
from pytxmr.job.mapreduce import MapReduce
from pytxmr.records import folds
from pytxmr.records.batch import batch
from pytxmr.records.columns import Groups, columns
from pytxmr.records.folds import identity
from pytxmr.records.partition import RangePartitioner

__all__ = [
    "Groups",
    "MapReduce",
    "RangePartitioner",
    "batch",
    "columns",
    "counter",
    "folds",
    "identity",
    "params",
    "side_file",
    "status",
]
__version__ = "0.1.0"
