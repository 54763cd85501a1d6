import random
from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from acgs1.optimizer.s3fifo import S3Fifo

KEYS = st.sampled_from([f"k{n}" for n in range(12)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(1, 40)),
        st.tuples(st.just("get"), KEYS, st.just(0)),
        st.tuples(st.just("remove"), KEYS, st.just(0)),
    ),
    max_size=200,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, capacity=st.integers(1, 100))
def test_it_holds_what_was_set_last_within_its_bytes_and_names_each_eviction_once(steps, capacity):
    evicted: list[str] = []
    cache: S3Fifo[int] = S3Fifo(capacity, on_evict=lambda key, value: evicted.append(key))
    truth: dict[str, tuple[int, int]] = {}
    for number, (action, key, weight) in enumerate(steps):
        evicted.clear()
        if action == "set":
            kept = cache.set(key, number, weight)
            assert kept == (weight <= capacity)
            truth.pop(key, None)
            if kept:
                truth[key] = (number, weight)
                assert cache.peek(key) == number, "the newest key is always there"
        elif action == "get":
            assert cache.get(key) == (truth[key][0] if key in truth else None)
        else:
            assert cache.remove(key) == truth.pop(key, (None,))[0]
        for gone in evicted:
            del truth[gone]
        assert set(cache) == set(truth)
        assert cache.weight == sum(weight for _, weight in truth.values()) <= capacity
    cache.clear()
    assert (len(cache), cache.weight) == (0, 0)


def test_a_scan_washes_out_less_than_it_does_with_lru():
    rng = random.Random(7)
    ranks = [1 / (n + 1) for n in range(2000)]
    trace: list[str] = []
    scanned = 0
    for _ in range(60):
        trace += [f"hot{n}" for n in rng.choices(range(2000), ranks, k=500)]
        trace += [f"scan{n}" for n in range(scanned, scanned + 250)]
        scanned += 250

    cache: S3Fifo[bool] = S3Fifo(200)
    lru: OrderedDict[str, None] = OrderedDict()
    hits = lru_hits = 0
    for key in trace:
        if cache.get(key):
            hits += 1
        else:
            cache.set(key, True, 1)
        if key in lru:
            lru_hits += 1
            lru.move_to_end(key)
        else:
            lru[key] = None
            if len(lru) > 200:
                lru.popitem(last=False)
    print(f"hit rate on the trace: S3-FIFO {hits / len(trace):.3f}, LRU {lru_hits / len(trace):.3f}")
    assert hits > lru_hits * 1.1
