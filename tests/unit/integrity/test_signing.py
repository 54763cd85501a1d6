"""Ed25519 keys: RFC vectors, key files, refusals."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acgs1.kit.signing import (
    KeyFileError,
    SigningKey,
    VerifyingKey,
    base64url_decode,
    base64url_encode,
)

# RFC 8032, section 7.1, test 2, and RFC 8037, appendix A.
SEED_2 = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
SIGNATURE_2 = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
SEED_8037 = base64url_decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")


def test_a_signature_is_the_one_of_the_rfc_8032_vector() -> None:
    key = SigningKey.from_seed(SEED_2)
    assert key.sign(b"\x72") == SIGNATURE_2
    assert key.public.verify(SIGNATURE_2, b"\x72")


def test_the_key_id_is_the_thumbprint_of_rfc_8037_appendix_a3() -> None:
    key = SigningKey.from_seed(SEED_8037)
    assert key.public.base64url == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key.key_id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@given(st.binary(max_size=64), st.integers(0, 511))
def test_any_flipped_bit_of_a_signature_fails(data: bytes, bit: int) -> None:
    key = SigningKey.from_seed(SEED_2)
    signature = bytearray(key.sign(data))
    signature[bit // 8] ^= 1 << bit % 8
    assert not key.public.verify(bytes(signature), data)


def test_a_signature_of_the_wrong_length_is_false_not_an_error() -> None:
    public = SigningKey.from_seed(SEED_2).public
    assert not public.verify(b"", b"x")
    assert not public.verify(SIGNATURE_2 + b"\0", b"\x72")


def test_a_jwk_round_trips_and_carries_no_private_part() -> None:
    key = SigningKey.generate()
    assert "d" not in key.jwk()
    assert VerifyingKey.from_jwk(key.jwk()) == key.public


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "EC", "crv": "P-256", "x": "AA"},
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
    ],
)
def test_a_jwk_of_another_kind_is_refused(jwk: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Ed25519|public key"):
        VerifyingKey.from_jwk(jwk)


def test_a_token_signed_with_the_key_verifies_under_its_published_jwk() -> None:
    key = SigningKey.generate()
    token = jwt.encode({"sub": "u"}, key.key, algorithm="EdDSA", headers={"kid": key.key_id})
    assert jwt.decode(token, jwt.PyJWK(key.jwk()).key, algorithms=["EdDSA"]) == {"sub": "u"}


@given(st.binary(max_size=100))
def test_base64url_round_trips(data: bytes) -> None:
    assert base64url_decode(base64url_encode(data)) == data


@pytest.mark.parametrize("text", ["A", "AB==", "AB", "A+B/", "AA A", "AAé", "AAA\n"])
def test_base64url_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        base64url_decode(text)


def test_a_new_key_file_is_0600_pkcs8_and_gives_the_same_key_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys" / "log.pem"
    key = SigningKey.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert SigningKey.load_or_create(path).public == key.public
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_create_the_same_key_file_at_once_agree(tmp_path: Path) -> None:
    path = str(tmp_path / "k.pem")
    code = f"from acgs1.kit.signing import SigningKey; print(SigningKey.load_or_create({path!r}).key_id)"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate(timeout=60)[0] for process in running}) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k.pem"
    SigningKey.load_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SigningKey.load_or_create(path)


def test_a_symbolic_link_a_fifo_and_a_directory_are_refused(tmp_path: Path) -> None:
    SigningKey.load_or_create(tmp_path / "k.pem")
    (tmp_path / "link.pem").symlink_to(tmp_path / "k.pem")
    os.mkfifo(tmp_path / "fifo.pem", 0o600)
    (tmp_path / "dir.pem").mkdir()
    for name in ("link.pem", "fifo.pem", "dir.pem"):
        with pytest.raises(KeyFileError):
            SigningKey.load_or_create(tmp_path / name)


def test_a_damaged_key_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    for content in (b"", b"nonsense", b"x" * 5000):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFileError):
            SigningKey.load_or_create(path)
        assert path.read_bytes() == content


def test_saving_never_replaces_a_key(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path / "k.pem")
    with pytest.raises(FileExistsError):
        SigningKey.generate().save(tmp_path / "k.pem")
    assert SigningKey.load(tmp_path / "k.pem").public == key.public


def test_the_repr_shows_nothing_secret() -> None:
    key = SigningKey.from_seed(SEED_2)
    assert SEED_2.hex() not in repr(key)
    assert base64url_encode(SEED_2) not in repr(key)
