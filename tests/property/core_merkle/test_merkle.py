"""The Merkle tree against the recursive definitions of RFC 9162, section 2.1, taken literally."""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acgs1.core.merkle import (
    EMPTY_ROOT,
    HASH_LENGTH,
    TILE_WIDTH,
    MerkleError,
    Plan,
    TileId,
    TreeHead,
    consistency_plan,
    edge_tiles,
    evaluate,
    extend,
    inclusion_plan,
    leaf_hash,
    parse_tile_path,
    root_from_tiles,
    root_plan,
    tile_index_path,
    tiles_of,
    verify_consistency,
    verify_inclusion,
)

# Sizes around the edges of tiles matter most.
SIZES = st.one_of(st.integers(1, 40), st.integers(250, 260), st.integers(500, 1200))
LEAVES = [leaf_hash(str(number).encode()) for number in range(1200)]


def mth(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = largest_power_below(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of section 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = largest_power_below(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def all_tiles(size: int) -> dict[TileId, bytes]:
    """Every tile straight from the definition in tlog-tiles."""
    tiles: dict[TileId, bytes] = {}
    level, row = 0, LEAVES[:size]
    while row:
        for start in range(0, len(row), TILE_WIDTH):
            tiles[TileId(level, start // TILE_WIDTH)] = b"".join(row[start : start + TILE_WIDTH])
        full = len(row) // TILE_WIDTH
        row = [mth(row[i * TILE_WIDTH : (i + 1) * TILE_WIDTH]) for i in range(full)]
        level += 1
    return tiles


def only(plan: Plan, tiles: dict[TileId, bytes]) -> dict[TileId, bytes]:
    return {tile: tiles[tile] for tile in tiles_of(plan)}


def head(size: int) -> TreeHead:
    return TreeHead(size, mth(LEAVES[:size]))


def test_the_hashes_are_those_of_the_rfc_6962_reference_tree() -> None:
    # Leaf inputs and roots of the Certificate Transparency reference implementation (merkle_tree_test).
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    leaves = [leaf_hash(bytes.fromhex(text)) for text in inputs]
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for size, root in roots.items():
        tiles = extend(0, {}, leaves[:size])
        assert root_from_tiles(size, tiles).hex() == root


@given(st.data(), SIZES)
def test_an_inclusion_proof_is_the_path_of_the_rfc_and_verifies(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    plan = inclusion_plan(index, size)
    proof = evaluate(plan, only(plan, all_tiles(size)))
    assert proof == path(index, LEAVES[:size])
    assert verify_inclusion(index, LEAVES[index], head(size), proof)


@given(st.data(), SIZES)
def test_a_consistency_proof_is_the_one_of_the_rfc_and_verifies(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(0, size))
    plan = consistency_plan(old, size)
    proof = evaluate(plan, only(plan, all_tiles(size)))
    assert proof == (subproof(old, LEAVES[:size], True) if old else [])
    assert verify_consistency(head(old), head(size), proof)


@given(st.data(), SIZES)
def test_a_proof_from_a_later_and_wider_tile_is_the_same(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    plan = inclusion_plan(index, size)
    assert evaluate(plan, all_tiles(1200)) == path(index, LEAVES[:size])


@given(st.data(), SIZES)
def test_any_flipped_bit_anywhere_makes_inclusion_fail(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = path(index, LEAVES[:size])
    parts = [LEAVES[index], head(size).root, *proof]
    which = data.draw(st.integers(0, len(parts) - 1))
    parts[which] = flip(data, parts[which])
    assert not verify_inclusion(index, parts[0], TreeHead(size, parts[1]), parts[2:])


@given(st.data(), SIZES)
def test_inclusion_holds_for_no_other_index_size_or_length(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = path(index, LEAVES[:size])
    other = data.draw(st.integers(-2, size + 2).filter(lambda n: n != index))
    assert not verify_inclusion(other, LEAVES[index], head(size), proof)
    if proof:
        assert not verify_inclusion(index, LEAVES[index], head(size), proof[:-1])
    assert not verify_inclusion(index, LEAVES[index], head(size), [*proof, LEAVES[0]])
    assert not verify_inclusion(index, LEAVES[index], head(size), [*proof[:-1], b"short"])


@given(st.data(), SIZES)
def test_any_flipped_bit_anywhere_makes_consistency_fail(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(1, size))
    proof = subproof(old, LEAVES[:size], True)
    parts = [head(old).root, head(size).root, *proof]
    which = data.draw(st.integers(0, len(parts) - 1))
    parts[which] = flip(data, parts[which])
    assert not verify_consistency(TreeHead(old, parts[0]), TreeHead(size, parts[1]), parts[2:])


@given(st.data(), SIZES)
def test_consistency_takes_no_missing_and_no_extra_hash_and_no_swapped_sizes(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(0, size))
    proof = subproof(old, LEAVES[:size], True) if old else []
    if proof:
        assert not verify_consistency(head(old), head(size), proof[:-1])
        assert not verify_consistency(head(size), head(old), proof)
    assert not verify_consistency(head(old), head(size), [*proof, LEAVES[0]])


@given(st.data(), SIZES)
def test_a_rewritten_history_has_no_consistency_proof_that_verifies(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(1, size))
    forged = list(LEAVES[:size])
    victim = data.draw(st.integers(0, old - 1))
    forged[victim] = leaf_hash(b"another story")
    assert not verify_consistency(head(old), TreeHead(size, mth(forged)), subproof(old, forged, True))


@settings(max_examples=60)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=6))
def test_growing_in_any_steps_gives_the_tiles_of_the_definition(steps: list[int]) -> None:
    size, tiles = 0, dict[TileId, bytes]()
    for wanted in steps:
        step = min(wanted, len(LEAVES) - size)
        edge = {tile: tiles[tile] for tile in edge_tiles(size)}
        tiles |= extend(size, edge, LEAVES[size : size + step])
        size += step
        assert {t: len(tiles[t]) // HASH_LENGTH for t in edge_tiles(size)} == edge_tiles(size)
        assert root_from_tiles(size, {t: tiles[t] for t in edge_tiles(size)}) == mth(LEAVES[:size])
    assert tiles == all_tiles(size)


def test_the_edge_of_the_specification_s_example_of_70000_leaves_is_as_written_there() -> None:
    assert edge_tiles(70_000) == {TileId(0, 273): 112, TileId(1, 1): 17, TileId(2, 0): 1}
    assert edge_tiles(256) == {TileId(1, 0): 1}
    assert edge_tiles(0) == {}


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 65_536, 70_000, 2**40 + 12345])
def test_any_proof_reads_few_tiles(size: int) -> None:
    # Two tiles per level at most: one over the leaf's own path, one on the right edge of the tree.
    levels = 1 + max(0, (size - 1).bit_length() // 8)
    for index in (0, size // 3, size - 1):
        assert len(tiles_of(inclusion_plan(index, size))) <= 2 * levels
        assert len(tiles_of(consistency_plan(index, size))) <= 2 * levels + 1
    assert len(tiles_of(root_plan(size))) <= levels


@pytest.mark.parametrize(
    "call",
    [
        lambda: inclusion_plan(3, 3),
        lambda: inclusion_plan(-1, 3),
        lambda: inclusion_plan(0, 0),
        lambda: consistency_plan(4, 3),
        lambda: consistency_plan(-1, 3),
        lambda: root_plan(-1),
        lambda: evaluate(root_plan(3), {TileId(0, 0): b"x" * 64}),
        lambda: evaluate(root_plan(3), {}),
        lambda: extend(3, {}, [LEAVES[0]]),
        lambda: extend(3, {TileId(0, 0): b"x" * 64}, [LEAVES[0]]),
    ],
)
def test_what_does_not_fit_the_tree_is_an_error(call: Callable[[], object]) -> None:
    with pytest.raises(MerkleError):
        call()


@given(st.integers(0, 10**20))
def test_tile_paths_round_trip(index: int) -> None:
    assert parse_tile_path(tile_index_path(index)) == (index, 256)
    assert parse_tile_path(tile_index_path(index) + ".p/17") == (index, 17)


def test_a_tile_path_is_written_as_in_the_specification() -> None:
    assert tile_index_path(1234067) == "x001/x234/067"


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "0001", "x001", "x000/001", "001/002", "x1/001", "../001", "001/", "/001", "x" * 300),
        *("001.p/0", "001.p/256", "001.p/01", "001.p/", "001.p/٣", "001.p/9999", "001.p/1/2"),
    ],
)
def test_any_other_spelling_of_a_tile_path_is_refused(text: str) -> None:
    with pytest.raises(MerkleError):
        parse_tile_path(text)


def flip(data: st.DataObject, value: bytes) -> bytes:
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
