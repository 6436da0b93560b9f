"""What is installed: known by name and version, and taken not to change otherwise."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from pytxmr.errors import BadJob

#: Directories of these names are what `pip` and the systems' packages install into.
_PLACES = frozenset(("site-packages", "dist-packages"))


@functools.cache
def installed_version(top: str) -> str:
    """The version of what a module belongs to, by the first part of its name.

    Raises `BadJob` for one that is neither installed nor part of Python or pytxmr: nobody can tell
    whether it has changed.
    """
    if top == "pytxmr":
        return own_digest()
    if top in sys.stdlib_module_names or top in ("builtins", "__future__"):
        return f"Python {sys.version}"
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return "absent"
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    if not any(_PLACES.intersection(Path(place).parts) for place in places):
        raise BadJob(
            f"--reuse: nobody can tell whether {top} has changed, which the job imports and which "
            f"is neither installed nor sent along: name it by --py-files"
        )
    version = getattr(sys.modules.get(top), "__version__", None)
    return version if isinstance(version, str) else _distribution_version(top, spec.origin)


def _distribution_version(top: str, origin: str | None) -> str:
    from importlib import metadata  # it takes long to import, and few need it

    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        names = sorted(metadata.packages_distributions().get(top, ()))
    if names:
        return " ".join(metadata.version(name) for name in names)
    # A file that somebody has put there by hand.
    data = Path(origin).read_bytes() if origin and os.path.isfile(origin) else b""
    return hashlib.sha256(data).hexdigest()


@functools.cache
def own_digest() -> str:
    """Of the code of pytxmr that attempts run: a checkout changes under the same version."""
    digest = hashlib.sha256(sys.version.encode())
    package = Path(__file__).resolve().parent.parent
    for path in sorted([*package.glob("records/*.py"), *package.glob("job/*.py")]):
        data = path.read_bytes()
        digest.update(b"%b %d " % (path.name.encode(), len(data)))
        digest.update(data)
    return digest.hexdigest()
