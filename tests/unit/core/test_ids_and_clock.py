"""Identifiers that order by creation, instants in one form."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acgs1.core import ids
from acgs1.core.clock import ManualClock, format_instant, parse_instant
from acgs1.core.ids import is_id, new_id, uuid7


def test_ids_order_by_creation_even_within_a_millisecond():
    made = [new_id("dec") for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_order_within_each_thread_and_never_repeat_across_threads():
    with ThreadPoolExecutor(4) as pool:
        lists = list(pool.map(lambda _: [uuid7() for _ in range(2000)], range(4)))
    assert all(made == sorted(made) for made in lists)
    assert len({one for made in lists for one in made}) == 8000


def test_ids_keep_their_order_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch):
    before = uuid7()
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_000_000_000)
    after = [uuid7() for _ in range(5000)]
    assert [before, *after] == sorted([before, *after])


def test_an_id_is_a_uuid_of_version_7():
    value = uuid7()
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    made = datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
    assert abs(made - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "dec",
        "dec_",
        "dec_1",
        "apr_01890a5d-ac96-774b-bcce-b302099a8057",
        "dec_01890A5D-AC96-774B-BCCE-B302099A8057",
    ],
)
def test_what_is_no_id_is_told_apart(wrong: str):
    assert not is_id(wrong, "dec")
    assert is_id(new_id("dec"), "dec")


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])))
def test_an_instant_survives_its_textual_form(instant: datetime):
    try:
        utc = instant.astimezone(UTC)
    except OverflowError:
        return
    text = format_instant(instant)
    assert text.endswith("Z")
    assert parse_instant(text) == utc


def test_a_naive_instant_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        format_instant(datetime(2026, 1, 1))  # noqa: DTZ001 - the point
    with pytest.raises(ValueError, match="offset"):
        parse_instant("2026-01-01T00:00:00")


def test_a_clock_does_not_go_back():
    clock = ManualClock()
    clock.advance(1.5)
    assert clock.monotonic() == 1.5
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
