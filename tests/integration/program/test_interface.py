"""The shipped files fit together, and the IDL says of each account what the program keeps there."""

import json
from importlib.resources import files

from solders.pubkey import Pubkey

from acgs1.core.hashing import sha256_hex
from program.rig import IDL, PROGRAM, SHIPPED, Rig

ARTIFACTS = files("acgs1.ledger") / "artifacts"


def test_the_build_record_names_the_shipped_bytes() -> None:
    assert SHIPPED is not None
    record = json.loads((ARTIFACTS / "quantumagi_core.build.json").read_text())
    assert record["program_sha256"] == SHIPPED.sha256
    assert record["program_bytes"] == len(SHIPPED.elf)
    assert record["idl_sha256"] == sha256_hex((ARTIFACTS / "quantumagi_core.json").read_bytes())
    assert record["default_address"] == str(PROGRAM) == IDL.address
    assert (ARTIFACTS / "quantumagi_core.so.sha256").read_text().split()[0] == SHIPPED.sha256


def test_discriminators_are_anchors() -> None:
    assert SHIPPED is not None
    for section, namespace in (("instructions", "global"), ("accounts", "account"), ("events", "event")):
        for item in SHIPPED.idl[section]:
            assert bytes(item["discriminator"]).hex() == sha256_hex(f"{namespace}:{item['name']}".encode())[:16]


def test_nobody_can_hold_the_default_addresss_key() -> None:
    assert bytes(PROGRAM).hex() == sha256_hex(b"acgs1/quantumagi_core/3")
    for seed in (b"governance", b"anchor"):
        assert Pubkey.find_program_address([seed], PROGRAM)[1] == 255


def test_every_account_decodes_to_its_last_byte() -> None:
    """Fixed accounts have exactly the described size: a field too many or too few would shift or leave bytes."""
    rig = Rig()
    members = rig.ready()
    rig.propose(members[0])
    rig.attest()
    sizes = {"u8": 1, "bool": 1, "u16": 2, "u32": 4, "u64": 8, "i64": 8, "pubkey": 32}
    assert SHIPPED is not None
    types = {t["name"]: t["type"] for t in SHIPPED.idl["types"]}

    def size(kind: object) -> int:
        match kind:
            case str():
                return 4 if kind == "bytes" else sizes[kind]
            case {"array": [of, count]}:
                return size(of) * count
            case {"defined": {"name": name}}:
                assert types[name]["kind"] == "enum"
                return 1
        raise AssertionError(kind)

    for data in (data for _, data, _ in rig.state().values()):
        decoded = IDL.decode_account(data)
        assert decoded is not None
        name, fields = decoded
        described = 8 + sum(size(f["type"]) for f in types[name]["fields"])
        assert len(data) == described + len(fields.get("ballots", b""))
