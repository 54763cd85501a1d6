"""Anchor's interface description (IDL, format of Anchor 0.30 and later), interpreted: instructions, accounts, events.

The program's IDL is generated from its source, so encoding by it cannot drift from the program. Layout: Borsh, which for
this program's packed `repr(C)` accounts are the same bytes.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

_INTEGERS: Final = {
    "u8": "<B", "i8": "<b", "u16": "<H", "i16": "<h", "u32": "<I", "i32": "<i", "u64": "<Q", "i64": "<q",
}  # fmt: skip


class IdlError(ValueError):
    """Bytes or values that do not fit the description."""


@dataclass(frozen=True, slots=True)
class ProgramFault:
    """An error that the program declares."""

    number: int
    name: str
    message: str


class Idl:
    """One program's description."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.address: str = document["address"]
        self._types: dict[str, Any] = {t["name"]: t["type"] for t in document.get("types", [])}
        self._instructions: dict[str, Any] = {i["name"]: i for i in document["instructions"]}
        self._names = {bytes(i["discriminator"]): str(i["name"]) for i in document["instructions"]}
        self._accounts = {bytes(a["discriminator"]): str(a["name"]) for a in document.get("accounts", [])}
        self._events = {bytes(e["discriminator"]): str(e["name"]) for e in document.get("events", [])}
        self.errors = {
            int(e["code"]): ProgramFault(int(e["code"]), e["name"], e.get("msg", e["name"]))
            for e in document.get("errors", [])
        }

    def account_discriminator(self, name: str) -> bytes:
        return next(d for d, n in self._accounts.items() if n == name)

    def instruction_data(self, name: str, args: Mapping[str, object]) -> bytes:
        """Discriminator and arguments of instruction `name`. Raises IdlError naming the argument that does not fit."""
        described = self._described(name)
        out = bytearray(described["discriminator"])
        expected = [a["name"] for a in described["args"]]
        if set(expected) != set(args):
            raise IdlError(f"`{name}` takes ({', '.join(expected)}), got ({', '.join(args)})")
        for argument in described["args"]:
            self._write(out, argument["type"], args[argument["name"]], f"{name}.{argument['name']}")
        return bytes(out)

    def instruction(
        self, program: Pubkey, name: str, args: Mapping[str, object], accounts: Mapping[str, Pubkey | None]
    ) -> Instruction:
        """Instruction `name`, its accounts in the described order. An optional account that is None is left out by
        Anchor's convention: the program's own address stands for it. Raises IdlError for a missing or unknown account.
        """
        described = self._described(name)
        metas: list[AccountMeta] = []
        known: set[str] = set()
        for account in described["accounts"]:
            label: str = account["name"]
            known.add(label)
            address = accounts.get(label)
            if address is None and "address" in account and not account.get("optional", False):
                address = Pubkey.from_string(account["address"])
            if address is None:
                if not account.get("optional", False):
                    raise IdlError(f"`{name}` needs account `{label}`")
                metas.append(AccountMeta(program, is_signer=False, is_writable=False))
                continue
            metas.append(AccountMeta(address, bool(account.get("signer", False)), bool(account.get("writable", False))))
        if unknown := set(accounts) - known:
            raise IdlError(f"`{name}` has no account `{', '.join(sorted(unknown))}`")
        return Instruction(program, self.instruction_data(name, args), metas)

    def instruction_name(self, data: bytes) -> str | None:
        """Which instruction this is the data of."""
        return self._names.get(data[:8])

    def account_names(self, name: str) -> list[str]:
        """The accounts of instruction `name`, in order."""
        return [account["name"] for account in self._described(name)["accounts"]]

    def decode_account(self, data: bytes) -> tuple[str, dict[str, Any]] | None:
        """(type, fields) of an account of the program; None where its discriminator is unknown."""
        return self._decode(self._accounts, data)

    def decode_event(self, data: bytes) -> tuple[str, dict[str, Any]] | None:
        """(name, fields) of an event; None where its discriminator is unknown."""
        return self._decode(self._events, data)

    def decode_instruction(self, data: bytes) -> tuple[str, dict[str, Any]] | None:
        """(name, arguments) of an instruction's data; None where its discriminator is unknown."""
        name = self.instruction_name(data)
        if name is None:
            return None
        reader = _Reader(data, 8)
        return name, {a["name"]: self._read(reader, a["type"]) for a in self._described(name)["args"]}

    def _described(self, name: str) -> Any:
        described = self._instructions.get(name)
        if described is None:
            raise IdlError(f"the program has no instruction `{name}`")
        return described

    def _decode(self, table: Mapping[bytes, str], data: bytes) -> tuple[str, dict[str, Any]] | None:
        name = table.get(data[:8])
        if name is None:
            return None
        fields = self._read(_Reader(data, 8), {"defined": {"name": name}})
        return name, fields

    # -- Borsh ------------------------------------------------------------------------------------------------

    def _write(self, out: bytearray, kind: Any, value: Any, where: str) -> None:
        try:
            self._write_checked(out, kind, value, where)
        except IdlError:
            raise
        except (struct.error, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise IdlError(f"`{where}` is of type `{kind}`, got `{value!r}`") from error

    def _write_checked(self, out: bytearray, kind: Any, value: Any, where: str) -> None:
        if isinstance(kind, str):
            _write_primitive(out, kind, value, where)
        elif "array" in kind:
            item, length = kind["array"]
            if len(value) != length:
                raise IdlError(f"`{where}` has {length} elements, got {len(value)}")
            self._write_elements(out, item, value, where)
        elif "vec" in kind:
            out += struct.pack("<I", len(value))
            self._write_elements(out, kind["vec"], value, where)
        elif "option" in kind:
            out.append(0 if value is None else 1)
            if value is not None:
                self._write(out, kind["option"], value, where)
        else:
            self._write_defined(out, kind["defined"]["name"], value, where)

    def _write_elements(self, out: bytearray, item: Any, value: Any, where: str) -> None:
        if item == "u8":
            out += bytes(value)
            return
        for index, element in enumerate(value):
            self._write(out, item, element, f"{where}[{index}]")

    def _write_defined(self, out: bytearray, name: str, value: Any, where: str) -> None:
        described = self._types[name]
        if described["kind"] == "enum":
            names = [v["name"] for v in described["variants"]]
            if value not in names:
                raise IdlError(f"`{where}` is one of {', '.join(names)}, got `{value}`")
            out.append(names.index(value))
            return
        for field in described["fields"]:
            self._write(out, field["type"], value[field["name"]], f"{where}.{field['name']}")

    def _read(self, reader: "_Reader", kind: Any) -> Any:
        if isinstance(kind, str):
            return _read_primitive(reader, kind)
        if "array" in kind:
            item, length = kind["array"]
            return reader.take(length) if item == "u8" else [self._read(reader, item) for _ in range(length)]
        if "vec" in kind:
            return [self._read(reader, kind["vec"]) for _ in range(reader.length())]
        if "option" in kind:
            return self._read(reader, kind["option"]) if reader.take(1) != b"\0" else None
        return self._read_defined(reader, kind["defined"]["name"])

    def _read_defined(self, reader: "_Reader", name: str) -> Any:
        described = self._types[name]
        if described["kind"] == "enum":
            variants = described["variants"]
            number = reader.take(1)[0]
            if number >= len(variants):
                raise IdlError(f"`{name}` has no variant {number}")
            return str(variants[number]["name"])
        return {field["name"]: self._read(reader, field["type"]) for field in described["fields"]}


def _write_primitive(out: bytearray, kind: str, value: Any, where: str) -> None:
    if kind in _INTEGERS:
        out += struct.pack(_INTEGERS[kind], value)
    elif kind == "bool":
        out += struct.pack("<B", int(bool(value)))
    elif kind == "u128":
        out += int(value).to_bytes(16, "little")
    elif kind in ("pubkey", "publicKey"):
        out += bytes(value)
    elif kind in ("string", "bytes"):
        raw = value.encode() if kind == "string" else bytes(value)
        out += struct.pack("<I", len(raw)) + raw
    else:
        raise IdlError(f"`{where}`: unknown type `{kind}`")


def _read_primitive(reader: "_Reader", kind: str) -> Any:
    read = _READ.get(kind)
    if read is None:
        raise IdlError(f"unknown type `{kind}`")
    return read(reader)


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise IdlError(f"{len(self._data)} bytes are too few: {end} are needed")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def length(self) -> int:
        """The u32 before a sequence."""
        return int.from_bytes(self.take(4), "little")

    def integer(self, code: str) -> int:
        return int(struct.unpack(code, self.take(struct.calcsize(code)))[0])


_READ: Final[dict[str, Callable[[_Reader], object]]] = {
    **{kind: partial(_Reader.integer, code=code) for kind, code in _INTEGERS.items()},
    "bool": lambda reader: reader.take(1) != b"\0",
    "u128": lambda reader: int.from_bytes(reader.take(16), "little"),
    "pubkey": lambda reader: Pubkey(reader.take(32)),
    "publicKey": lambda reader: Pubkey(reader.take(32)),
    "string": lambda reader: reader.take(reader.length()).decode(),
    "bytes": lambda reader: reader.take(reader.length()),
}
