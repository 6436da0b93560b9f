"""``python -m pytxmr`` is the ``pytxmr`` command."""

from pytxmr.cli import command

if __name__ == "__main__":
    command()
