"""``python -m pytxmr`` is the ``pytxmr`` command."""

from pytxmr.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
