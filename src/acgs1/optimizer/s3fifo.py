"""S3-FIFO: a cache eviction policy of three queues, here bounded in bytes.

Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023. New keys pass through a
small queue (a tenth of the room) and most leave from there, so a scan cannot wash out what is asked for again and
again; keys asked for twice move to the main queue; a ghost queue remembers keys that left the small one too early.
Owned because the libraries at hand bound entries, not bytes, or evict by plain LFU, which never forgets.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

V = TypeVar("V")

_MOST_FREQUENT: Final = 3


@dataclass(slots=True)
class _Slot(Generic[V]):
    value: V
    weight: int
    frequency: int = 0
    in_main: bool = False


class S3Fifo(Generic[V]):
    """A mapping of strings to values whose weights sum to at most `capacity` (bytes). Not thread-safe.

    `on_evict(key, value)` hears of keys that lost their room, not of those removed by their owner.
    """

    def __init__(self, capacity: int, *, on_evict: Callable[[str, V], None] | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is at least 1 byte, not `{capacity}`")
        self.capacity = capacity
        self.evictions = 0
        self._small_capacity = max(1, capacity // 10)
        self._on_evict = on_evict
        self._slots: dict[str, _Slot[V]] = {}
        self._small: OrderedDict[str, None] = OrderedDict()
        self._main: OrderedDict[str, None] = OrderedDict()
        self._ghost: OrderedDict[str, None] = OrderedDict()
        self._small_weight = 0
        self._weight = 0

    @property
    def weight(self) -> int:
        """Bytes held; never more than `capacity`."""
        return self._weight

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def get(self, key: str) -> V | None:
        """The value of `key`, counted as a use."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        if slot.frequency < _MOST_FREQUENT:
            slot.frequency += 1
        return slot.value

    def peek(self, key: str) -> V | None:
        """The value of `key` without counting a use."""
        slot = self._slots.get(key)
        return None if slot is None else slot.value

    def set(self, key: str, value: V, weight: int) -> bool:
        """Keep `value` under `key`; False when it alone is heavier than the whole cache (then nothing is kept)."""
        if weight < 1:
            raise ValueError(f"a weight is at least 1 byte, not `{weight}`")
        known = self._slots.get(key)
        frequency = 0 if known is None else known.frequency
        in_main = self._ghost.pop(key, self) is None if known is None else known.in_main
        self.remove(key)
        if weight > self.capacity:
            return False
        while self._weight + weight > self.capacity:
            self._make_room()
        slot = self._slots[key] = _Slot(value, weight, frequency, in_main)
        (self._main if in_main else self._small)[key] = None
        self._add_weight(slot, weight)
        return True

    def remove(self, key: str) -> V | None:
        """Drop `key`; its value if it was there."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return None
        del (self._main if slot.in_main else self._small)[key]
        self._add_weight(slot, -slot.weight)
        return slot.value

    def clear(self) -> None:
        for queue in (self._slots, self._small, self._main, self._ghost):
            queue.clear()
        self._small_weight = self._weight = 0

    def _add_weight(self, slot: _Slot[V], weight: int) -> None:
        self._weight += weight
        if not slot.in_main:
            self._small_weight += weight

    def _make_room(self) -> None:
        """Move or evict one key. INVARIANT: each call evicts, shortens the small queue or lowers a frequency, so it ends."""
        if self._small and (self._small_weight > self._small_capacity or not self._main):
            key, _ = self._small.popitem(last=False)
            slot = self._slots[key]
            if slot.frequency > 1:
                self._small_weight -= slot.weight
                slot.in_main = True
                slot.frequency = 0
                self._main[key] = None
            else:
                self._remember(key)
                self._evict(key, slot)
            return
        key, _ = self._main.popitem(last=False)
        slot = self._slots[key]
        if slot.frequency > 0:
            slot.frequency -= 1
            self._main[key] = None
        else:
            self._evict(key, slot)

    def _evict(self, key: str, slot: _Slot[V]) -> None:
        del self._slots[key]
        self._add_weight(slot, -slot.weight)
        self.evictions += 1
        if self._on_evict is not None:
            self._on_evict(key, slot.value)

    def _remember(self, key: str) -> None:
        self._ghost[key] = None
        while len(self._ghost) > max(16, len(self._main)):
            self._ghost.popitem(last=False)
