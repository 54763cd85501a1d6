"""Base58 with Bitcoin's alphabet, as Solana writes addresses, signatures and instruction data."""

from typing import Final

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {c: i for i, c in enumerate(_ALPHABET)}


def b58encode(data: bytes) -> str:
    stripped = data.lstrip(b"\0")
    number = int.from_bytes(stripped, "big")
    out: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        out.append(_ALPHABET[digit])
    return "1" * (len(data) - len(stripped)) + "".join(reversed(out))


def b58decode(text: str) -> bytes:
    """Raises ValueError naming the first character that is not base58."""
    number = 0
    for position, char in enumerate(text):
        digit = _DIGITS.get(char)
        if digit is None:
            raise ValueError(f"`{char}` at position {position} is not a base58 digit")
        number = number * 58 + digit
    stripped = text.lstrip("1")
    body = number.to_bytes((number.bit_length() + 7) // 8, "big") if stripped else b""
    return bytes(len(text) - len(stripped)) + body
