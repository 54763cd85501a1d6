"""Merkle trees of RFC 9162, section 2.1, stored as the tiles of C2SP tlog-tiles.

Everything here is a pure function. Proofs are generated in two steps, so that storage may be of any kind: a plan says
which subtree roots it needs, `tiles_of` which tiles hold them, and `evaluate` computes the proof once those are read:
O(log n) tiles for any proof. Indices and sizes count leaves; hashes are 32 raw bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeAlias

HASH_LENGTH = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = sha256(b"").digest()


class MerkleError(ValueError):
    """A size, index or tile that does not fit the tree."""


class TreeHead(NamedTuple):
    """A tree's size and root: what a checkpoint signs."""

    size: int
    root: bytes


class Node(NamedTuple):
    """A perfect subtree: its root covers the leaves from `number << level` up to, excluding,
    `(number + 1) << level`."""

    level: int
    number: int


class TileId(NamedTuple):
    """A tile: its hash `i` is the root of `Node(8 * level, 256 * number + i)`."""

    level: int
    number: int


Plan: TypeAlias = tuple[tuple[Node, ...], ...]
"""One tuple of nodes per proof hash, left to right; each folds into one hash."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf's content (RFC 9162, section 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 9162, section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


# --- verification ---------------------------------------------------------------------------------------------------


def verify_inclusion(index: int, leaf: bytes, head: TreeHead, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the leaf with hash `leaf` stands at `index` (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < head.size or not _hashes([leaf, head.root, *proof]):
        return False
    position, last, root = index, head.size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and root == head.root


def verify_consistency(old: TreeHead, new: TreeHead, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree `new` begins with all leaves of `old` (RFC 9162, section 2.1.4.2).

    Every tree extends the empty one; that needs, and takes, no hashes.
    """
    if not 0 <= old.size <= new.size or not _hashes([old.root, new.root, *proof]):
        return False
    if old.size == new.size:
        return not proof and old.root == new.root
    if old.size == 0:
        return not proof and old.root == EMPTY_ROOT
    path = list(proof)
    if old.size & (old.size - 1) == 0:
        path.insert(0, old.root)
    if not path:
        return False
    position, last = old.size - 1, new.size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_root = new_root = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old_root = node_hash(sibling, old_root)
            new_root = node_hash(sibling, new_root)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new_root = node_hash(new_root, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and old_root == old.root and new_root == new.root


def _hashes(values: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_LENGTH for value in values)


# --- plans ----------------------------------------------------------------------------------------------------------


def root_plan(size: int) -> Plan:
    """The plan for the root of the first `size` leaves; `evaluate` gives one hash, or none for the empty tree."""
    _check_size(size)
    return (_cover(0, size),) if size else ()


def inclusion_plan(index: int, size: int) -> Plan:
    """The plan for the inclusion proof of leaf `index` in the tree of `size` leaves (RFC 9162, section 2.1.3.1)."""
    _check_size(size)
    if not 0 <= index < size:
        raise MerkleError(f"leaf `{index}` is not in a tree of `{size}` leaves")
    low, high = 0, size
    plan: list[tuple[Node, ...]] = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            plan.append(_cover(middle, high))
            high = middle
        else:
            plan.append(_cover(low, middle))
            low = middle
    return tuple(reversed(plan))


def consistency_plan(old_size: int, new_size: int) -> Plan:
    """The plan for the consistency proof between two sizes of one tree (RFC 9162, section 2.1.4.1)."""
    _check_size(new_size)
    if not 0 <= old_size <= new_size:
        raise MerkleError(f"there is no consistency proof from size `{old_size}` to size `{new_size}`")
    if old_size in (0, new_size):
        return ()
    low, high = 0, new_size
    # INVARIANT: `known` while the verifier can name D[low:high] itself, because it is the whole old tree.
    known = True
    plan: list[tuple[Node, ...]] = []
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            plan.append(_cover(middle, high))
            high = middle
        else:
            plan.append(_cover(low, middle))
            low, known = middle, False
    if not known:
        plan.append(_cover(low, high))
    return tuple(reversed(plan))


def tiles_of(plan: Plan) -> frozenset[TileId]:
    """The tiles that `evaluate` needs for `plan`."""
    return frozenset(_locate(node)[0] for nodes in plan for node in nodes)


def evaluate(plan: Plan, tiles: Mapping[TileId, bytes]) -> list[bytes]:
    """The hashes of `plan`, computed from the content of `tiles_of(plan)`.

    Raises MerkleError when a tile is missing or short.
    """
    hashes: list[bytes] = []
    for nodes in plan:
        value = _subtree(nodes[-1], tiles)
        for node in reversed(nodes[:-1]):
            value = node_hash(_subtree(node, tiles), value)
        hashes.append(value)
    return hashes


def root_from_tiles(size: int, tiles: Mapping[TileId, bytes]) -> bytes:
    """The root of the first `size` leaves; `tiles` must hold `edge_tiles(size)`."""
    plan = root_plan(size)
    return evaluate(plan, tiles)[0] if plan else EMPTY_ROOT


# --- growing --------------------------------------------------------------------------------------------------------


def edge_tiles(size: int) -> dict[TileId, int]:
    """The partial tiles on the right edge of a tree, with their widths.

    They are all that is needed to grow it or to compute its root.
    """
    _check_size(size)
    edge: dict[TileId, int] = {}
    level, count = 0, size
    while count:
        if width := count % TILE_WIDTH:
            edge[TileId(level, count // TILE_WIDTH)] = width
        level, count = level + 1, count // TILE_WIDTH
    return edge


def extend(size: int, edge: Mapping[TileId, bytes], leaves: Sequence[bytes]) -> dict[TileId, bytes]:
    """The tiles that change, with their new content, when leaf hashes are appended to a tree of `size` leaves.

    `edge` holds the content of `edge_tiles(size)`; raises MerkleError when one is missing or has another width.
    """
    changed: dict[TileId, bytes] = {}
    widths = edge_tiles(size)
    level, count, hashes = 0, size, list(leaves)
    while hashes:
        parents: list[bytes] = []
        taken = 0
        while taken < len(hashes):
            tile, width = TileId(level, count // TILE_WIDTH), count % TILE_WIDTH
            content = b""
            if width:
                content = edge.get(tile, b"")
                if widths[tile] != width or len(content) != width * HASH_LENGTH:
                    raise MerkleError(f"{tile} of a tree of {size} leaves must hold {width} hashes")
            step = hashes[taken : taken + TILE_WIDTH - width]
            content += b"".join(step)
            changed[tile] = content
            taken += len(step)
            count += len(step)
            if len(content) == TILE_WIDTH * HASH_LENGTH:
                parents.append(_fold_perfect(content))
        level, count, hashes = level + 1, size >> TILE_HEIGHT * (level + 1), parents
    return changed


# --- names of tiles -------------------------------------------------------------------------------------------------


def tile_index_path(index: int) -> str:
    """A tile's index as path elements of three digits: 1234067 is `x001/x234/067` (tlog-tiles)."""
    if index < 0:
        raise MerkleError(f"a tile index is not negative: `{index}`")
    path = f"{index % 1000:03d}"
    while index := index // 1000:
        path = f"x{index % 1000:03d}/{path}"
    return path


def parse_tile_path(path: str) -> tuple[int, int]:
    """Index and width from `<N>[.p/<W>]` (tlog-tiles); raises MerkleError for anything but the one right spelling."""
    number, partial, width_text = path.partition(".p/")
    width = TILE_WIDTH
    if partial:
        width = int(width_text) if width_text.isascii() and width_text.isdigit() and len(width_text) <= 3 else 0
        if not 1 <= width < TILE_WIDTH or str(width) != width_text:
            raise MerkleError(f"the width of a partial tile is 1 to 255, not `{width_text[:20]}`")
    digits = number.replace("/", "").replace("x", "")
    # 21 digits name more leaves than 2^64; the round trip refuses every other spelling.
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 21) or tile_index_path(int(digits)) != number:
        raise MerkleError(f"a tile index looks like `x001/x234/067`, not `{number[:80]}`")
    return int(digits), width


# --- details --------------------------------------------------------------------------------------------------------


def _check_size(size: int) -> None:
    if not 0 <= size < 1 << 63:
        raise MerkleError(f"a tree has between 0 and 2^63-1 leaves, not `{size}`")


def _split(count: int) -> int:
    """The largest power of two smaller than `count` (at least 2)."""
    return 1 << (count - 1).bit_length() - 1


def _cover(low: int, high: int) -> tuple[Node, ...]:
    """The perfect subtrees, left to right, that make up the leaves from `low` to `high`.

    INVARIANT: `low` is a multiple of the largest power of two within the range, which holds for every range that the
    RFC's recursion visits; the pieces therefore shrink from left to right and fold into the range's own tree hash.
    """
    nodes: list[Node] = []
    while low < high:
        level = (high - low).bit_length() - 1
        nodes.append(Node(level, low >> level))
        low += 1 << level
    return tuple(nodes)


def _locate(node: Node) -> tuple[TileId, int, int]:
    """The tile that holds `node`, and the range of its hashes that lie under it."""
    level, height = divmod(node.level, TILE_HEIGHT)
    first = node.number << height
    return TileId(level, first // TILE_WIDTH), first % TILE_WIDTH, 1 << height


def _subtree(node: Node, tiles: Mapping[TileId, bytes]) -> bytes:
    tile, first, count = _locate(node)
    content = tiles.get(tile, b"")[first * HASH_LENGTH : (first + count) * HASH_LENGTH]
    if len(content) != count * HASH_LENGTH:
        raise MerkleError(f"{tile} must hold at least {first + count} hashes to give {node}")
    return _fold_perfect(content)


def _fold_perfect(content: bytes) -> bytes:
    """The root of a perfect subtree from its concatenated hashes."""
    row = [content[at : at + HASH_LENGTH] for at in range(0, len(content), HASH_LENGTH)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]
