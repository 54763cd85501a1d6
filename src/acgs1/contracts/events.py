"""Events for the transparency log. A service writes one into its outbox in the transaction that made it true."""

from typing import Annotated

from pydantic import AwareDatetime, Field, JsonValue, PlainSerializer

from acgs1.contracts.common import Message
from acgs1.core.clock import format_instant
from acgs1.core.ids import new_id

Instant = Annotated[AwareDatetime, PlainSerializer(format_instant, when_used="json")]
"""An aware instant whose JSON has the one form that hashes rest on (`acgs1.core.clock.format_instant`)."""


class Event(Message):
    """One fact for the record. `data` holds no personal data in the clear: commitments only (see `personal`).

    Integrity deduplicates by `id` (`evt_...`, or the id of the record itself, such as `dec_...`), so sending an event twice is harmless.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=80)]
    type: Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z_]+)+$", max_length=80)]
    time: Instant
    service: Annotated[str, Field(min_length=1, max_length=64)]
    actor: Annotated[str, Field(min_length=1, max_length=256)]
    subject: Annotated[str, Field(min_length=1, max_length=256)]
    data: dict[str, JsonValue] = {}
    personal: dict[str, "Commitment"] = {}


class Commitment(Message):
    """SHA-256 over a 32-byte random salt and the canonical JSON of a personal value: `sha256(salt || jcs(value))`.

    The salt stays with the service that holds the value; deleting it erases what the leaf says about the person while the tree stands.
    """

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def new_event(service: str, kind: str, at: Instant, *, actor: str, subject: str, **data: JsonValue) -> Event:
    """An event with an id of its own; `data` becomes its payload."""
    return Event(id=new_id("evt"), type=kind, time=at, service=service, actor=actor, subject=subject, data=data)


class EventBatch(Message):
    events: Annotated[list[Event], Field(min_length=1, max_length=1000)]


class Receipt(Message):
    """Where an event stands in the log; `duplicate` when it was already there."""

    event_id: str
    leaf_index: int
    duplicate: bool


class Receipts(Message):
    receipts: list[Receipt]
