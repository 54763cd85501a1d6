"""How the values of one operation are cached."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Generic, Protocol, TypeVar

from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex
from acgs1.optimizer.levels import LONGEST_SECONDS

V = TypeVar("V")


class Codec(Protocol):
    """Turns a value into the bytes that shared levels keep, and back. Equal values give equal bytes."""

    @property
    def form(self) -> str:
        """Type and version of the bytes, one line. What was written in another form is a miss: a newer or older release of the
        code may share the levels."""
        ...

    def encode(self, value: Any) -> bytes: ...

    def decode(self, payload: bytes) -> Any: ...


class JsonCodec:
    """Plain JSON data, in canonical form (RFC 8785)."""

    form = "json/1"

    def encode(self, value: Any) -> bytes:
        return canonical_json(value)

    def decode(self, payload: bytes) -> Any:
        return json.loads(payload)


class ModelCodec(Generic[V]):
    """Pydantic types, in canonical JSON; `type_` is whatever a TypeAdapter takes. The form names the type and its JSON schema, so
    that a model which has changed never reads what the old one wrote."""

    def __init__(self, type_: type[V]) -> None:
        self._type = type_
        self._form: str | None = None

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(self._type)

    @property
    def form(self) -> str:
        if self._form is None:
            schema = sha256_hex(canonical_json(self._adapter.json_schema()))[:16]
            self._form = f"model/1 {getattr(self._type, '__qualname__', 'value')} {schema}"
        return self._form

    def encode(self, value: Any) -> bytes:
        return canonical_json(self._adapter.dump_python(value, mode="json"))

    def decode(self, payload: bytes) -> Any:
        return self._adapter.validate_json(payload)


_SEAL: Final = b"acgs1-cache/1 "


def seal(codec: Codec, body: bytes) -> bytes:
    """What a shared level keeps: the form on a line of its own, then the body."""
    return b"%s%s\n%s" % (_SEAL, codec.form.encode(), body)


def unseal(codec: Codec, payload: bytes) -> bytes | None:
    """The body; None for what was not sealed in the form of `codec`."""
    head, _, body = payload.partition(b"\n")
    return body if head == _SEAL + codec.form.encode() else None


class TtlRule(Protocol):
    """Chooses TTLs from what is observed (see `acgs1.optimizer.adaptive`)."""

    def ttl(self) -> float: ...

    def observe_load(self, *, age: float, changed: bool, accesses: int) -> None: ...


JSON: Final = JsonCodec()


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How the values of one operation are cached.

    `ttl`: seconds until a value is loaded anew; shortened by up to `jitter` of itself, so that keys filled together do
    not expire together. In the last `refresh_ahead` of its life the first caller starts a new load in the background
    and everybody keeps the old value. When a load fails (a refusal is no failure), a value that expired at most
    `stale_if_error` seconds ago is served instead. So a value may be `ttl + stale_if_error` seconds old at most, and is
    never served after an invalidation that this process has heard of.

    `shared`: also kept in Redis and the database; False for what must not leave the process (secrets, tokens, keys).
    `codec`: its form there. None for values without one (then `shared` must be False, and `weigh` says their bytes).
    `hand_out_same`: callers get the same object each time; only for immutable values. Otherwise each gets a fresh copy.
    `cacheable`: which values are kept; None never is: nothing found is not an answer worth repeating.
    `adaptive`: chooses the TTL instead of `ttl`, within the bounds that it declares.
    """

    ttl: float = 30.0
    jitter: float = 0.1
    refresh_ahead: float = 0.1
    stale_if_error: float = 0.0
    shared: bool = True
    codec: Codec | None = field(default=JSON)
    hand_out_same: bool = False
    weigh: Callable[[Any], int] | None = None
    cacheable: Callable[[Any], bool] | None = None
    adaptive: TtlRule | None = None

    def __post_init__(self) -> None:
        if not 0 < self.ttl <= LONGEST_SECONDS or self.stale_if_error < 0:
            raise ValueError(
                f"ttl is over 0 and at most {LONGEST_SECONDS:g} s and stale_if_error at least 0; "
                f"got {self.ttl:g} and {self.stale_if_error:g}"
            )
        if self.ttl + self.stale_if_error > LONGEST_SECONDS:
            raise ValueError(f"ttl + stale_if_error is at most {LONGEST_SECONDS:g} s")
        if not 0 <= self.jitter < 1 or not 0 <= self.refresh_ahead < 1:
            raise ValueError(f"jitter and refresh_ahead are in [0, 1); got {self.jitter:g} and {self.refresh_ahead:g}")
        if self.codec is None and (self.shared or self.weigh is None):
            raise ValueError("without a codec a value stays in the process (shared=False) and needs `weigh`")
