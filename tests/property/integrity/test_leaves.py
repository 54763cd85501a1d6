"""Whatever an event holds, its leaf verifies after every way through JSON, or is refused before it is logged."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from acgs1.contracts.events import Event
from acgs1.contracts.integrity import Entry, leaf_content
from acgs1.core.canonical import canonical_json
from acgs1.core.merkle import leaf_hash
from acgs1.services.integrity.domain import encode_event, make_leaf, records_event
from acgs1.services.integrity.errors import EventNotLoggable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
INSTANTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
WORDS = st.text(min_size=1, max_size=20)


@st.composite
def events(draw: st.DrawFn) -> Event:
    return Event(
        id="evt_1",
        type="thing.happened",
        time=draw(INSTANTS),
        service="tester",
        actor=draw(WORDS),
        subject=draw(WORDS),
        data=draw(st.dictionaries(st.text(max_size=5), JSON, max_size=4)),
    )


@given(events(), st.datetimes(timezones=st.just(UTC)))
def test_a_leaf_holds_what_the_contract_says_and_its_entry_hashes_to_it(event: Event, logged_at: datetime) -> None:
    try:
        leaf = make_leaf(event, encode_event(event), 3, logged_at)
    except EventNotLoggable:
        assume(False)
        raise
    assert leaf.content == leaf_content(event, logged_at)
    # As an auditor has it: through the wire form of the entry, twice.
    entry = Entry.model_validate_json(Entry.model_validate_json(leaf.entry().model_dump_json()).model_dump_json())
    assert leaf_hash(leaf_content(entry.event, entry.logged_at)).hex() == entry.leaf_hash == leaf.hash.hex()


@given(events(), events(), st.datetimes(timezones=st.just(UTC)))
def test_an_event_is_recognised_as_itself_and_as_no_other(one: Event, other: Event, logged_at: datetime) -> None:
    try:
        encoded, different = encode_event(one), encode_event(other)
    except EventNotLoggable:
        assume(False)
        raise
    content = make_leaf(one, encoded, 0, logged_at).content
    assert records_event(content, encoded)
    assert records_event(content, different) == (encoded == different)


@given(st.integers(min_value=2**53) | st.integers(max_value=-(2**53)) | st.floats(min_value=2.0**53, max_value=1e20))
def test_a_number_that_json_readers_cannot_hold_exactly_is_refused(number: float) -> None:
    event = Event(
        id="e",
        type="a.b",
        time=datetime.now(UTC),
        service="tester",
        actor="a",
        subject="s",
        data={"deep": [{"n": number}]},
    )
    try:
        encoded = encode_event(event)
    except EventNotLoggable:
        return
    assert canonical_json(json.loads(encoded)) == encoded
    raise AssertionError(f"{number} was taken: {encoded!r}")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+05:30", "9999-12-31T23:59:59-05:30"])
def test_a_time_outside_the_calendar_in_utc_is_refused(time: str) -> None:
    event = Event.model_validate({"id": "e", "type": "a.b", "time": time, "service": "t", "actor": "a", "subject": "s"})
    with pytest.raises(EventNotLoggable):
        encode_event(event)


def test_a_time_in_the_first_century_reads_back() -> None:
    event = Event(id="e", type="a.b", time=datetime(33, 4, 3, tzinfo=UTC), service="t", actor="a", subject="s")
    assert make_leaf(event, encode_event(event), 0, datetime(33, 4, 3, tzinfo=UTC)).entry().event == event
