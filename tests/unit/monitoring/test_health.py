from acgs1.core.clock import ManualClock
from acgs1.monitoring.health import Check, Status, TargetHealth


def walk(*statuses: Status) -> list[Status]:
    health, clock, seen = TargetHealth("auth"), ManualClock(), []
    for status in statuses:
        clock.advance(30)
        health.observe(Check("auth", clock.now(), status, 0.001))
        seen.append(health.status)
    return seen


UP, SLOW, BAD, GONE, NEW = Status.HEALTHY, Status.DEGRADED, Status.UNHEALTHY, Status.DOWN, Status.UNKNOWN


def test_three_failures_in_a_row_make_it_bad_and_two_successes_good_again():
    assert walk(UP, GONE, GONE, UP, GONE, GONE, GONE, UP, GONE, UP, UP) == [
        *(UP,) * 6, GONE, GONE, GONE, GONE, UP,
    ]  # fmt: skip


def test_an_unknown_part_is_trusted_at_its_first_answer_and_blamed_only_after_three_misses():
    assert walk(UP) == [UP]
    assert walk(GONE, GONE, GONE) == [NEW, NEW, GONE]


def test_degraded_shows_at_once():
    assert walk(UP, SLOW, UP) == [UP, SLOW, UP]


def test_the_kind_of_failure_is_that_of_the_last_check():
    assert walk(UP, BAD, BAD, GONE, BAD)[-2:] == [GONE, BAD]
