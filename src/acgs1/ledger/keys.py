"""Addresses, and keypair files in the format of Solana's own tools: a JSON array of 64 bytes, readable by the owner alone."""

import json
import stat
from pathlib import Path

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from acgs1.kit.home import write_private
from acgs1.ledger.errors import KeyFileError


def parse_address(text: str) -> Pubkey:
    """The address in `text`. Raises ValueError saying what an address looks like."""
    try:
        return Pubkey.from_string(text)
    except ValueError:
        raise ValueError(f"`{text}` is not an address: expected 32 bytes in base58") from None


def address_of(keypair: Keypair) -> Pubkey:
    """As `keypair.pubkey()`, from the half that holds it: solders computes it anew each time, for 30 µs."""
    return Pubkey(keypair.to_bytes()[32:])


def load_keypair(path: Path) -> Keypair:
    """The keypair in `path`. Raises KeyFileError where it is absent, readable by others, or no keypair."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except OSError as error:
        raise KeyFileError(f"keypair `{path}`: {error.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(f"keypair `{path}` has mode {stat.S_IMODE(mode):04o}; it must be 0600 (chmod 600)")
    try:
        return Keypair.from_bytes(bytes(json.loads(text)))
    except (ValueError, TypeError):
        raise KeyFileError(
            f"keypair `{path}`: expected a JSON array of 64 bytes whose halves belong together"
        ) from None


def save_keypair(path: Path, keypair: Keypair) -> None:
    """Write `keypair` to `path` (0600, durable). Raises KeyFileError where the file exists: a key is never overwritten."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # The file appears whole: another process that starts at the same moment must not read half a key.
        write_private(path, json.dumps(list(keypair.to_bytes())).encode(), exclusive=True)
    except OSError as error:
        raise KeyFileError(f"keypair `{path}`: {error.strerror}") from None


def load_or_create_keypair(path: Path) -> Keypair:
    """The keypair in `path`, made there first if the file is absent."""
    if not path.exists():
        keypair = Keypair()
        try:
            save_keypair(path, keypair)
        except KeyFileError:
            if not path.exists():
                raise
        else:
            return keypair
    return load_keypair(path)
