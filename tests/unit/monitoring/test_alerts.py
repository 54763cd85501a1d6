from datetime import timedelta

import pytest

from acgs1.core.clock import ManualClock
from acgs1.monitoring.alerts import AlertBook, NoSuchAlert
from acgs1.monitoring.slo import Severity


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def book(clock: ManualClock) -> AlertBook:
    return AlertBook(clock, escalate_after=timedelta(minutes=15))


def fire(book: AlertBook, target: str = "auth", severity: Severity = Severity.CRITICAL, name: str = "down"):
    return book.fire(name, target, severity, f"{target} is down", runbook="r", evidence={})


def told(book: AlertBook) -> list[list[tuple[str, Severity, bool]]]:
    return [[(a.target, a.severity, a.resolved_at is not None) for a in group] for group in book.due()]


def test_what_fires_again_is_the_same_alert_and_told_once(book, clock):
    first = fire(book)
    assert told(book) == [[("auth", Severity.CRITICAL, False)]]
    clock.advance(30)
    again = fire(book)
    assert (again.id, again.occurrences) == (first.id, 2)
    assert told(book) == []
    clock.advance(4 * 3600)
    assert len(told(book)) == 1, "a reminder after four hours"


def test_parts_that_fail_together_are_one_message(book):
    for target in ("auth", "integrity", "ledger"):
        fire(book, target)
    fire(book, "a->b", name="breaker-open")
    assert sorted(len(group) for group in book.due()) == [1, 3]


def test_its_end_is_told_also_of_one_that_began_and_ended_before_anybody_could_be_told(book):
    fire(book)
    fire(book, "ledger")
    book.due()
    fire(book, "integrity")
    book.resolve("down", "auth")
    book.resolve("down", "integrity")
    assert told(book) == [[("auth", Severity.CRITICAL, True), ("integrity", Severity.CRITICAL, True)]]
    assert [alert.target for alert in book.firing] == ["ledger"]
    assert [alert.target for alert in book.resolved] == ["integrity", "auth"]
    assert book.resolve("down", "auth") is None


def test_what_began_and_ended_under_a_silence_is_not_told(book, clock):
    book.silence(name="down", target=None, until=clock.now() + timedelta(minutes=5), reason="known", by="usr_1")
    fire(book)
    book.resolve("down", "auth")
    assert told(book) == []
    assert [alert.target for alert in book.resolved] == ["auth"]


def test_a_change_stays_unstored_until_it_is_said_to_be_stored(book):
    fire(book)
    first = book.changed()
    fire(book, "ledger")
    fire(book)
    book.stored(first)
    assert {alert.target for alert in book.changed()} == {"auth", "ledger"}, "auth has changed since"
    book.stored(book.changed())
    assert book.changed() == []


def test_a_silenced_alert_is_kept_and_told_when_the_silence_ends(book, clock):
    silence = book.silence(
        name=None, target="auth", until=clock.now() + timedelta(minutes=5), reason="known", by="usr_1"
    )
    fire(book, severity=Severity.WARNING)
    fire(book, "ledger")
    assert [[a.target for a in group] for group in book.due()] == [["ledger"]]
    assert len(book.firing) == 2
    book.end_silence(silence.id)
    assert [[a.target for a in group] for group in book.due()] == [["auth"]]
    with pytest.raises(NoSuchAlert):
        book.end_silence(silence.id)


def test_a_critical_alert_that_goes_on_becomes_an_emergency_once(book, clock):
    fire(book)
    book.due()
    clock.advance(15 * 60)
    fire(book)
    assert told(book) == [[("auth", Severity.EMERGENCY, False)]]
    fire(book)
    assert told(book) == []
    assert book.firing[0].severity is Severity.EMERGENCY


def test_one_that_gets_worse_is_told_again(book):
    fire(book, severity=Severity.WARNING)
    book.due()
    fire(book, severity=Severity.CRITICAL)
    assert told(book) == [[("auth", Severity.CRITICAL, False)]]
