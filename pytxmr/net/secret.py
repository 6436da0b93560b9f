"""The cluster's secret: its file, and what is derived from it.

The file holds at least 128 random bits in hexadecimal and can be read by its owner alone. It is
the password of the Perspective Broker login. Where a person has to type something, a token derived
from it is used, so that the secret itself never crosses an unencrypted connection.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat

from pytxmr.errors import BadConfiguration

_BYTES = 32
_FEWEST_BITS = 128


def make_secret(path: str) -> None:
    """Write a new secret file with mode 0600. Raises `BadConfiguration` if the file exists."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadConfiguration(f"{path} exists already; a secret is never overwritten") from error
    except OSError as error:
        raise BadConfiguration(f"cannot create {path}: {error.strerror}") from error
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_hex(_BYTES) + "\n")


def read_secret(path: str) -> bytes:
    """The secret in the file; `BadConfiguration` if it is missing, open to others or weak."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096).strip()
    except OSError as error:
        raise BadConfiguration(
            f"cannot read the secret file {path}: {error.strerror}; "
            f"`pytxmr secret {path}` makes one"
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadConfiguration(
            f"others can read or write the secret file {path} (mode {stat.S_IMODE(mode):04o}); "
            f"`chmod 600 {path}` closes it"
        )
    try:
        bits = 8 * len(bytes.fromhex(text.decode("ascii")))
    except ValueError as error:
        raise BadConfiguration(
            f"the secret file {path} does not hold hexadecimal digits"
        ) from error
    if bits < _FEWEST_BITS:
        raise BadConfiguration(f"the secret in {path} has fewer than 128 bits")
    return text


def inspection_token(secret: bytes) -> str:
    """What a person types after ``auth`` to inspect partitions from another machine."""
    return hmac.new(secret, b"pytxmr inspection", hashlib.sha256).hexdigest()[:32]


def sign(key: bytes, text: str) -> str:
    """The signature of a shuffle request under its job's key: HMAC-SHA-256 (RFC 2104), in hex."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def same(expected: str, given: str) -> bool:
    """Compare two signatures or tokens in constant time."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))
