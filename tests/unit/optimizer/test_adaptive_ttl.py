import random

import pytest

from acgs1.optimizer.adaptive import AdaptiveTtl


def replay(changes_every: float, accesses_per_second: float, rule: AdaptiveTtl | None, fixed: float = 0.0) -> float:
    """Cost per access (a miss 1, a stale answer 20) of a seeded trace of Poisson changes and accesses."""
    rng = random.Random(11)
    now, next_change, version = 0.0, rng.expovariate(1 / changes_every), 0
    kept: tuple[float, int] | None = None
    hits = 0
    cost = 0.0
    accesses = 20_000
    for _ in range(accesses):
        now += rng.expovariate(accesses_per_second)
        while next_change <= now:
            version += 1
            next_change += rng.expovariate(1 / changes_every)
        ttl = rule.ttl() if rule else fixed
        if kept is not None and now - kept[0] < ttl:
            hits += 1
            cost += 20 * (kept[1] != version)
            continue
        if kept is not None and rule is not None:
            rule.observe_load(age=now - kept[0], changed=kept[1] != version, accesses=hits)
        cost += 1
        kept, hits = (now, version), 0
    return cost / accesses


@pytest.mark.parametrize(("changes_every", "accesses"), [(5.0, 20.0), (60.0, 10.0), (600.0, 2.0)])
def test_on_a_replayed_trace_it_comes_close_to_the_best_fixed_ttl_and_beats_a_wrong_one(changes_every, accesses):
    adaptive = replay(changes_every, accesses, AdaptiveTtl(shortest=0.1, longest=600))
    fixed = {ttl: replay(changes_every, accesses, None, ttl) for ttl in (0.1, 1.0, 10.0, 60.0, 600.0)}
    print(f"changes every {changes_every:g} s: adaptive {adaptive:.4f}, fixed {fixed}")
    assert adaptive <= 1.25 * min(fixed.values())
    assert adaptive < 0.5 * max(fixed.values())


def test_what_hardly_ever_changes_is_kept_longer_with_every_load_that_confirms_it():
    adaptive = replay(60_000.0, 0.5, AdaptiveTtl(shortest=0.1, longest=600))
    print(f"hardly ever: adaptive {adaptive:.4f}, fixed 10 s {replay(60_000.0, 0.5, None, 10.0):.4f}")
    assert adaptive < 0.5 * replay(60_000.0, 0.5, None, 10.0)


def test_it_never_leaves_its_bounds():
    rng = random.Random(3)
    rule = AdaptiveTtl(shortest=2, longest=30)
    for _ in range(500):
        rule.observe_load(age=rng.uniform(0, 100), changed=rng.random() < 0.5, accesses=rng.randrange(1000))
        assert 2 <= rule.ttl() <= 30


def test_the_rate_of_change_is_estimated_from_loads():
    rng = random.Random(5)
    rule = AdaptiveTtl(shortest=1, longest=100)
    assert rule.changes_per_second is None
    estimates = []
    for number in range(2000):
        age = 5.0
        rule.observe_load(age=age, changed=rng.random() < 1 - 2.718281828 ** (-age / 10), accesses=3)
        if number > 100:
            estimates.append(rule.changes_per_second or 0)
    # It tracks a rate that may switch, so it leans to the faster ones: a change missed costs more than a load.
    assert sum(estimates) / len(estimates) == pytest.approx(0.1, rel=0.25)


def test_a_burst_of_changes_shortens_the_ttl_at_once_and_a_quiet_stretch_lengthens_it_again():
    rule = AdaptiveTtl(shortest=0.1, longest=60)

    def find(changed: bool, loads: int) -> float:
        for _ in range(loads):
            rule.observe_load(age=rule.ttl(), changed=changed, accesses=int(20 * rule.ttl()))
        return rule.ttl()

    quiet = find(changed=False, loads=400)
    assert find(changed=True, loads=2) < quiet / 3
    assert find(changed=False, loads=400) > quiet / 2


def test_bounds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="shortest <= longest"):
        AdaptiveTtl(shortest=5, longest=1)
