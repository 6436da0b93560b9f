"""The secret: made strong and private, read only if it is, and what is derived from it."""

from __future__ import annotations

import os
import stat

import pytest

from pytxmr.errors import BadConfiguration
from pytxmr.net.secret import inspection_token, make_secret, read_secret, same, sign


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "secret")


def put(path: str, text: bytes, mode: int = 0o600) -> None:
    with open(path, "wb") as file:
        file.write(text)
    os.chmod(path, mode)


def test_a_new_secret_is_private_and_has_128_random_bits_or_more(path):
    umask = os.umask(0)
    try:
        make_secret(path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    secret = read_secret(path)
    assert len(bytes.fromhex(secret.decode())) * 8 >= 128
    make_secret(f"{path}2")
    assert read_secret(f"{path}2") != secret


def test_a_secret_is_never_overwritten(path):
    put(path, b"precious")
    with pytest.raises(BadConfiguration, match="exists already"):
        make_secret(path)
    with open(path, "rb") as file:
        assert file.read() == b"precious"


def test_a_secret_is_never_written_through_a_link(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(BadConfiguration, match="exists already"):
        make_secret(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_secret_that_cannot_be_created_is_explained(tmp_path):
    with pytest.raises(BadConfiguration, match="cannot create .*: No such file or directory"):
        make_secret(str(tmp_path / "no" / "secret"))


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o601, 0o777])
def test_a_secret_that_others_have_access_to_is_refused(path, mode):
    put(path, b"ab" * 32, mode)
    with pytest.raises(BadConfiguration, match=f"mode {mode:04o}.*chmod 600"):
        read_secret(path)


@pytest.mark.parametrize("text", [b"", b"\n", b"ab" * 15, b"ab" * 15 + b"\n", b"ab " * 12])
def test_a_short_secret_is_refused(path, text):
    put(path, text)
    with pytest.raises(BadConfiguration, match="fewer than 128 bits"):
        read_secret(path)


@pytest.mark.parametrize("text", [b"xy" * 32, b"a" * 33, b"\xff" * 64, "٣".encode() * 32])
def test_a_secret_that_is_not_hexadecimal_is_refused(path, text):
    put(path, text)
    with pytest.raises(BadConfiguration, match="hexadecimal"):
        read_secret(path)


def test_a_missing_secret_is_refused_with_how_to_make_one(path):
    with pytest.raises(BadConfiguration, match=f"pytxmr secret {path}"):
        read_secret(path)


def test_a_directory_is_no_secret(tmp_path):
    with pytest.raises(BadConfiguration, match="Is a directory"):
        read_secret(str(tmp_path))


def test_space_around_the_secret_does_not_count(path):
    put(path, b"  " + b"ab" * 16 + b"\r\n")
    assert read_secret(path) == b"ab" * 16


def test_the_token_follows_from_the_secret_and_does_not_show_it():
    token = inspection_token(b"ab" * 32)
    assert token == inspection_token(b"ab" * 32)
    assert token != inspection_token(b"ac" * 32)
    assert len(bytes.fromhex(token)) * 8 >= 128
    assert "abab" not in token


def test_a_signature_is_of_one_key_and_one_text():
    signature = sign(b"key", "Job001 Map001.0 0")
    assert same(signature, sign(b"key", "Job001 Map001.0 0"))
    assert not same(signature, sign(b"yek", "Job001 Map001.0 0"))
    assert not same(signature, sign(b"key", "Job001 Map001.0 1"))


@pytest.mark.parametrize("given", ["", "a", "ü", "\udcff", "a" * 10_000])
def test_anything_can_be_compared_with_a_token(given):
    assert not same("a" * 32, given)
