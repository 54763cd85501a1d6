"""A constitution's file: each fault with file, line, column and what was expected; nothing half-read."""

from pathlib import Path

import pytest

from acgs1.kit.constitution_file import (
    ConstitutionFile,
    InvalidConstitutionFile,
    UnusableFile,
    load_constitution,
    read_text,
)

GOOD = """\
name: Desk
schema_text: "entity Agent;"
principles:
  - id: first
    title: First
    text: Do no harm.
    category: safety
    priority: 1
    invariants:
      - kind: never
        when: "true"
"""

FAULTS = [
    ("priority: 1", "priority: zero", 8, 5, "integer"),
    ("priority: 1", "priority: 0", 8, 5, "greater than or equal to 1"),
    ("    category: safety\n", "", 4, 5, "required"),
    ("    category: safety", "    categroy: safety", 7, 5, "Extra inputs"),
    ("id: first", "id: First One", 4, 5, "pattern"),
    ("kind: never", "kind: nevre", 10, 9, "never"),
    ('when: "true"', 'wehn: "true"', 11, 9, "Extra inputs"),
    ("name: Desk", "name: ''", 1, 1, "at least 1 character"),
    ("name: Desk", "name: [Desk", 2, 12, ""),
    ("    text: Do no harm.", "\ttext: Do no harm.", 6, 1, "cannot start any token"),
    ("text: Do no harm.", "text: Do no\x07 harm.", 6, 16, "U+0007"),
    ("text: Do no harm.", "text: 2026-02-30", 6, 11, "day"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "message"), FAULTS, ids=lambda v: str(v).strip()[:24])
def test_a_fault_is_named_by_file_line_and_column(
    tmp_path: Path, old: str, new: str, line: int, column: int, message: str
):
    file = tmp_path / "constitution.yaml"
    assert GOOD.count(old) == 1
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(InvalidConstitutionFile) as refusal:
        load_constitution(file)
    places = [(item.line, item.column) for item in refusal.value.items]
    assert (line, column) in places, refusal.value.detail
    assert f"{file}:{line}:{column}" in refusal.value.detail
    assert message in refusal.value.detail


def test_every_fault_is_told_at_once(tmp_path: Path):
    file = tmp_path / "constitution.yaml"
    file.write_text(GOOD.replace("priority: 1", "priority: 0").replace("id: first", "id: '?'"))
    with pytest.raises(InvalidConstitutionFile) as refusal:
        load_constitution(file)
    assert {(4, 5), (8, 5)} <= {(item.line, item.column) for item in refusal.value.items}


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "expected a mapping"), (b"- a", "expected a mapping"), (b"\xff", "UTF-8")]
)
def test_a_file_that_is_no_constitution_says_what_was_expected(tmp_path: Path, content: bytes, message: str):
    file = tmp_path / "constitution.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidConstitutionFile, match=message):
        load_constitution(file)


def test_a_missing_file_or_schema_is_named(tmp_path: Path):
    with pytest.raises(InvalidConstitutionFile, match=r"nothing\.yaml"):
        load_constitution(tmp_path / "nothing.yaml")
    file = tmp_path / "constitution.yaml"
    file.write_text(GOOD.replace('schema_text: "entity Agent;"', "schema_file: nowhere.cedarschema"))
    with pytest.raises(InvalidConstitutionFile, match=r"nowhere\.cedarschema"):
        load_constitution(file)


def test_a_pointer_leads_to_its_place(tmp_path: Path):
    file = tmp_path / "constitution.yaml"
    file.write_text(GOOD)
    loaded = ConstitutionFile(file)
    assert loaded.constitution.name == "Desk"
    assert loaded.place("/principles/0/invariants/0/when") == (11, 9)
    assert loaded.place("/principles/0/title") == (5, 5)
    assert loaded.place("/principles/7") == (3, 1)


def test_a_text_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path):
    with pytest.raises(UnusableFile, match=r"policies\.cedar: No such file"):
        read_text(tmp_path / "policies.cedar")
    file = tmp_path / "policies.cedar"
    file.write_bytes(b"permit (principal,\n\xffaction, resource);")
    with pytest.raises(UnusableFile) as refused:
        read_text(file)
    assert (refused.value.items[0].line, refused.value.items[0].column) == (2, 1)


BLOCKS = """name: t
schema_text: "entity A;"
principles:
  - id: p
    title: p
    text: p
    category: c
    priority: 1
    invariants:
      - kind: never
        when: |
          context.ok &&
            context.zz
      - {kind: never, when: "context.yy"}
      - kind: never
        when: context.xx
"""


@pytest.mark.parametrize(
    ("invariant", "line", "column", "place"),
    [(0, 1, 1, (12, 11)), (0, 2, 3, (13, 13)), (1, 1, 9, (14, 38)), (2, 1, 9, (16, 23))],
)
def test_a_place_in_a_text_is_found_in_the_file(
    tmp_path: Path, invariant: int, line: int, column: int, place: tuple[int, int]
):
    file = tmp_path / "constitution.yaml"
    file.write_text(BLOCKS)
    found = ConstitutionFile(file).place_in_text(f"/principles/0/invariants/{invariant}/when", line, column)
    assert found == place
