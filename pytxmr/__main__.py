"""``python -m pytxmr`` is the ``pytxmr`` command."""

import sys

from pytxmr.cli import command

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working directory: a job must not find there what its workers will not.
        del sys.path[0]
    command()
