"""How many workers a service gets, under a virtual clock."""

import pytest

from acgs1.contracts.topology import PART_BY_NAME
from acgs1.runtime.scaling import MANY, WHY_ONE, BadWorkers, Bounds, Rule, Scaler, parse

RULE = Rule(target=0.7, tolerance=0.1, up_window=15, down_window=120)


class Clock:
    """A service whose workers share a load evenly; every step is two seconds."""

    def __init__(self, least: int = 1, most: int = 4) -> None:
        bounds = Bounds(least, most)
        self.scaler = Scaler(bounds, RULE)
        self.now = 0.0
        self.workers = bounds.least
        self.changes: list[tuple[float, int]] = []

    def run(self, seconds: float, cores: float) -> int:
        """`cores` of work in all, for `seconds`; a worker uses at most one core. The number of workers afterwards."""
        until = self.now + seconds
        while self.now < until:
            self.now += 2
            wanted = self.scaler.decide(self.now, self.workers, min(cores / self.workers, 1.0))
            if wanted != self.workers:
                # The supervisor takes one step at a time.
                self.workers += 1 if wanted > self.workers else -1
                self.changes.append((self.now, self.workers))
        return self.workers


def test_a_lasting_load_brings_as_many_workers_as_keep_each_at_the_target():
    assert Clock().run(300, cores=1.3) == 2
    assert Clock().run(300, cores=2.0) == 3


def test_a_burst_shorter_than_the_window_changes_nothing():
    clock = Clock()
    clock.run(60, cores=0.3)
    clock.run(12, cores=3.0)
    clock.run(60, cores=0.3)
    assert clock.changes == []


def test_a_pause_shorter_than_the_window_takes_no_worker_away():
    clock = Clock()
    assert clock.run(120, cores=1.3) == 2
    clock.run(110, cores=0.1)
    assert clock.workers == 2
    clock.run(30, cores=0.1)
    assert clock.workers == 1


def test_a_load_around_the_target_moves_nothing():
    clock = Clock(2, 4)
    for _ in range(100):
        clock.run(10, cores=1.3)
        clock.run(10, cores=1.5)
    assert clock.changes == []


def test_a_load_that_goes_up_and_down_does_not_make_the_workers_flap():
    clock = Clock()
    for _ in range(30):
        clock.run(40, cores=1.9)
        clock.run(40, cores=0.2)
    # Up at first, then held: a fall has to last longer than the pauses do.
    assert [count for _, count in clock.changes] == [2, 3]


def test_the_bounds_hold_whatever_the_load():
    clock = Clock(2, 3)
    assert clock.run(300, cores=50) == 3
    assert clock.run(600, cores=0) == 2


def test_nothing_is_added_before_a_whole_window_has_been_seen():
    clock = Clock()
    clock.run(14, cores=4)
    assert clock.workers == 1
    clock.run(4, cores=4)
    assert clock.workers == 2


def test_every_part_either_may_have_several_workers_or_says_why_not():
    assert MANY | WHY_ONE.keys() == PART_BY_NAME.keys()
    assert not MANY & WHY_ONE.keys()


def test_auto_gives_every_service_that_may_have_several_as_many_as_there_are_cores():
    assert parse(["auto"], 8) == {name: Bounds(1, 8) for name in MANY}


def test_a_service_named_beside_auto_keeps_its_own_bounds_in_either_order():
    for words in (["auto", "policy_governance=2"], ["policy_governance=2", "auto"]):
        assert parse(words, 8)["policy_governance"] == Bounds(2, 2)
        assert parse(words, 8)["governance_synthesis"] == Bounds(1, 8)


def test_bounds_are_read():
    assert parse(["policy_governance=2-5"], 1) == {"policy_governance": Bounds(2, 5)}
    assert parse(["integrity=1"], 1) == {"integrity": Bounds(1, 1)}


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("integrity=2", "`integrity` has one worker: the log has one writer"),
        ("ledger=1-2", "`ledger` has one worker"),
        ("policy_governance", "`policy_governance` is not `auto` or `SERVICE=N`"),
        ("policy_gouvernance=2", "services with several workers are governance_synthesis, policy_governance"),
        ("policy_governance=many", "`policy_governance=2`"),
        ("policy_governance=0", "from 1 to 64"),
        ("policy_governance=3-2", "the smaller number first"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(word: str, says: str):
    with pytest.raises(BadWorkers) as refused:
        parse([word], 4)
    assert says in str(refused.value)
