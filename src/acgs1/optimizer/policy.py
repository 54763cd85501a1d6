"""How the values of one operation are cached."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from acgs1.optimizer.levels import LONGEST_SECONDS

V = TypeVar("V")


class Codec(Protocol):
    """Turns a value into the bytes that shared levels keep, and back."""

    def encode(self, value: Any) -> bytes: ...

    def decode(self, payload: bytes) -> Any: ...


class JsonCodec:
    """Plain JSON data."""

    def encode(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def decode(self, payload: bytes) -> Any:
        return json.loads(payload)


class ModelCodec(Generic[V]):
    """Pydantic types; `type_` is whatever a TypeAdapter takes. What does not fit the type any more is a miss."""

    def __init__(self, type_: type[V]) -> None:
        from pydantic import TypeAdapter

        self._adapter: Any = TypeAdapter(type_)

    def encode(self, value: Any) -> bytes:
        return self._adapter.dump_json(value)

    def decode(self, payload: bytes) -> Any:
        return self._adapter.validate_json(payload)


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
    and everybody keeps the old value. When a load fails, a value that expired at most `stale_if_error` seconds ago is
    served instead. So a value may be `ttl + stale_if_error` seconds old at most, and is never served after an
    invalidation that this process has heard of.

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
