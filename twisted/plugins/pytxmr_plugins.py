"""What makes ``twistd jobtracker`` and ``twistd tasktracker`` known to twistd.

Every run of twistd, for whatever program, imports this file, so it names the modules that do the
work and imports none of them.
"""

from twisted.application.service import ServiceMaker

jobtracker = ServiceMaker(
    "pytxmr jobtracker",
    "pytxmr.tap.jobtracker",
    "Takes MapReduce jobs and hands their tasks out to the tasktrackers of a cluster.",
    "jobtracker",
)

tasktracker = ServiceMaker(
    "pytxmr tasktracker",
    "pytxmr.tap.tasktracker",
    "Runs the map and reduce tasks of MapReduce jobs on this machine.",
    "tasktracker",
)
