"""The program that ships with the package: its bytes, its interface description, its address."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from acgs1.core.hashing import sha256_hex

_NAME = "quantumagi_core"


@dataclass(frozen=True, slots=True)
class Shipped:
    """`program_id` is where the embedded node installs the program; a public cluster may have it elsewhere."""

    program_id: str
    elf: bytes
    sha256: str
    idl: dict[str, Any]


@cache
def shipped() -> Shipped | None:
    """The built program, or None in a source tree where it was not built.

    Raises ValueError where the bytes do not have the SHA-256 that is written beside them.
    """
    directory = files("acgs1.ledger") / "artifacts"
    elf_file, idl_file = directory / f"{_NAME}.so", directory / f"{_NAME}.json"
    if not (elf_file.is_file() and idl_file.is_file()):
        return None
    elf = elf_file.read_bytes()
    digest = sha256_hex(elf)
    sum_file = directory / f"{_NAME}.so.sha256"
    if sum_file.is_file() and sum_file.read_text().split()[0] != digest:
        raise ValueError(f"`{_NAME}.so` has SHA-256 {digest}, but `{_NAME}.so.sha256` says otherwise")
    idl = json.loads(idl_file.read_text())
    return Shipped(program_id=idl["address"], elf=elf, sha256=digest, idl=idl)
