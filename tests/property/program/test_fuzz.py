"""Random instruction data and account sets: never a panic, and never a change by what is refused."""

import random

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM

from program.rig import DAY, IDL, SHIPPED, Rig, digest

# What the runtime reports when a program aborts; a refusal is an error of the program's own or of the account rules.
ABORTED = ("ProgramFailedToComplete", "ComputationalBudgetExceeded", "ProgramEnvironmentSetupFailure")


def populated() -> tuple[Rig, list[Pubkey], list]:
    """A chain with an account of every type, and the keys to act with."""
    rig = Rig()
    members = rig.ready((3, 2, 1))
    first = rig.propose(members[0])
    rig.carry(members[:2], first)
    rig.attest()
    assert rig.enact_policy(first).ok
    rig.propose(members[0], content=digest("open"))
    rig.must(
        rig.ix.emergency_action(rig.emergency.pubkey(), 0, "suspend_policy", digest("policy"), digest("w"), DAY),
        rig.emergency,
    )
    places = [
        rig.at.governance, rig.at.anchor, rig.at.principle(0), rig.at.principle(1), rig.at.proposal(0),
        rig.at.proposal(1), rig.at.proposal(2), rig.at.policy(digest("policy")), rig.at.policy(digest("open")),
        rig.at.attestation(digest("certificate")), rig.at.emergency(0), rig.at.emergency(1), SYSTEM, rig.program,
        *(rig.at.member(m.pubkey()) for m in members),
    ]  # fmt: skip
    return rig, places, [*members, rig.council, rig.emergency, rig.log, rig.verifier]


def mutated(rng: random.Random, data: bytes) -> bytes:
    raw = bytearray(data)
    match rng.randrange(5):
        case 0:
            return bytes(raw[: rng.randrange(len(raw) + 1)])
        case 1:
            return bytes(raw + rng.randbytes(rng.randrange(1, 40)))
        case 2:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        case 3 if len(raw) > 8:
            at = rng.randrange(8, len(raw))
            raw[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f"])[: len(raw) - at]
    return bytes(raw)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_panics_and_a_refusal_changes_nothing(seed: int) -> None:
    assert SHIPPED is not None
    rng = random.Random(seed)
    rig, places, keys = populated()
    by_name = {k.pubkey(): k for k in (*keys, rig.payer)}
    wallets = list(by_name)
    accepted = refused = 0
    for _ in range(400):
        described = rng.choice(SHIPPED.idl["instructions"])
        args = b"".join(sample(rng, a["type"], wallets) for a in described["args"])
        data = bytes(described["discriminator"]) + args
        if rng.random() < 0.4:
            data = mutated(rng, data)
        metas = []
        for account in described["accounts"]:
            guess = likely(rng, rig, account, places, wallets)
            signer = guess in by_name and rng.random() < 0.95
            metas.append(AccountMeta(guess, signer, rng.random() < 0.97 and guess not in (SYSTEM, rig.program)))
        if rng.random() < 0.1 and metas:
            metas.pop(rng.randrange(len(metas)))
        if rng.random() < 0.1 and metas:
            metas.append(rng.choice(metas))
        before = rig.state()
        signers = [by_name[m.pubkey] for m in metas if m.is_signer]
        outcome = rig.send(Instruction(rig.program, data, metas), *signers)
        assert not any(text in (outcome.error or "") for text in ABORTED), (outcome, data.hex(), metas)
        assert not any("panicked" in line for line in outcome.logs)
        if outcome.ok:
            accepted += 1
            rig.set_time(rig.now + rng.choice([0, 1, DAY]))
        else:
            refused += 1
            assert rig.state() == before
    assert accepted >= 3  # it reaches past the checks
    assert refused > 100


def sample(rng: random.Random, kind: object, wallets: list[Pubkey]) -> bytes:
    """Bytes of a value of the type, often one that means something."""
    known = [digest("policy"), digest("open"), digest("certificate"), digest("new")]
    match kind:
        case "pubkey":
            return bytes(rng.choice(wallets))
        case "u8" | "bool" | {"defined": _}:
            return bytes([rng.choice([0, 1, 2, 3, 255])])
        case "u16":
            return rng.choice([0, 1, 6_000, 10_000, 65_535]).to_bytes(2, "little")
        case "u32":
            return rng.choice([0, 1, 2, 2**32 - 1]).to_bytes(4, "little")
        case "u64":
            return rng.choice([0, 1, 7, 2**63, 2**64 - 1]).to_bytes(8, "little")
        case "i64":
            return rng.choice([-(2**63), -1, 0, 60, DAY, 2**63 - 1]).to_bytes(8, "little", signed=True)
        case "string":
            text = rng.choice([b"", b"title", b"\xff\xfe", b"x" * 64, b"x" * 65])
            return rng.choice([len(text), len(text), 2**32 - 1]).to_bytes(4, "little") + text
        case "bytes":
            seeds = rng.choice([b"", b"governance", b"proposal" + bytes(8), rng.randbytes(100)])
            return rng.choice([len(seeds), len(seeds), 2**32 - 1]).to_bytes(4, "little") + seeds
        case {"array": ["u8", 32]}:
            return bytes.fromhex(rng.choice(known)) if rng.random() < 0.9 else bytes(32)
    raise AssertionError(f"the IDL has a type that the fuzzer does not know: {kind}")


def likely(rng: random.Random, rig: Rig, account: dict, places: list[Pubkey], wallets: list[Pubkey]) -> Pubkey:
    """An address that fits the account's description most of the time."""
    if rng.random() < 0.05:
        return rng.choice(places + wallets)
    if "address" in account:
        return Pubkey.from_string(account["address"])
    if account.get("signer") or account["name"] in ("proposer", "payer"):
        usual = {"verifier": [rig.verifier], "council": [rig.council], "issuer": [rig.emergency]}
        usual["authority"] = usual["holder"] = [rig.log, rig.emergency]
        fitting_keys = [k.pubkey() for k in usual.get(account["name"], [])] or wallets[:3]
        return rng.choice(fitting_keys if rng.random() < 0.8 else wallets)
    if account.get("optional") and rng.random() < 0.5:
        return rig.program
    seeds = {bytes(s["value"]) for s in account.get("pda", {}).get("seeds", []) if s["kind"] == "const"}
    name = next(iter(seeds)).decode() if seeds else account["name"]
    fitting = [
        p for p in places if (decoded := _type_at(rig, p)) is not None and decoded.lower().endswith(name.lower())
    ]
    if name == "member" and fitting and rng.random() < 0.8:
        return rig.at.member(wallets[0])
    missing = [p for p in places if not rig.exists(p)]
    return rng.choice(fitting if fitting and rng.random() < 0.8 else missing or places)


def _type_at(rig: Rig, address: Pubkey) -> str | None:
    account = rig.svm.get_account(address)
    decoded = IDL.decode_account(bytes(account.data)) if account is not None and account.owner == rig.program else None
    return None if decoded is None else decoded[0]
