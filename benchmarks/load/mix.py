"""The mix: what the users ask for, how often, and which answer is right."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.load.client import BROKEN, encode
from benchmarks.load.scene import Agent, Case, Scene, basic

from acgs1.core.merkle import verify_inclusion
from acgs1.kit.notes import Checkpoint, NoteError, open_checkpoint

Check = Callable[[int, bytes], str | None]
"""What is wrong with an answer, or None."""

Make = Callable[[Random, int], tuple[bytes, Check]]
"""The bytes of a request for one user, and the check of its answer. Raises Exhausted."""


class Exhausted(Exception):
    """There is nothing left to ask of this kind (every ballot has been cast)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: `share` of the offered rate in percent, or `per_second` whatever the rate."""

    name: str
    service: str
    does: str
    make: Make
    share: float = 0.0
    per_second: float = 0.0
    repeatable: bool = True
    """Whether a client may send it again without knowing what became of the first one."""


Repeatable = frozenset({BROKEN, 502, 503, 504})
"""What a client that retries once takes for a reason to: a broken connection, or a status that says `not now`. Not an answer that did not
come in time: whoever waits would only wait longer, and a system that is overloaded would get twice the load."""


@dataclass(slots=True)
class Record:
    """What the answers leave behind: ids of acknowledged decisions with the answer given, and where what was made can be found."""

    decisions: dict[str, bool] = field(default_factory=dict)
    made: list[tuple[str, str]] = field(default_factory=list)


BALLOTS_PER_SECOND = 0.125
"""At most nine ballots: the example has three members, and each of them can have one vote on the bundle open."""

GOOD = 'permit (principal, action == Action::"search_flights", resource) unless { principal.suspended };'
BAD = 'permit (principal, action == Action::"search_flights", resource);'


def build(scene: Scene, record: Record) -> list[Kind]:
    """All kinds. The shares add up to 100."""
    allow = [case for case in scene.cases if case.allowed]
    deny = [case for case in scene.cases if not case.allowed]
    token = scene.token
    bundle, run = scene.bundle, scene.run
    principle = f"/api/v1/principles/{scene.constitution.principles[0].id}"

    def document(part: str, path: str, who: str | None = token) -> Make:
        made = encode("GET", path, token=who), _same(scene.documents[part, path])
        return lambda _, __: made

    kinds = [
        Kind("decide-allow", "policy_governance", "AuthZEN decision that must allow; durable in the spool before the answer, then an "
             "entry of the log", _decisions(scene.agents, allow, record), share=34),
        Kind("decide-deny", "policy_governance", "AuthZEN decision that must deny and name the principles; durable and logged likewise",
             _decisions(scene.agents, deny, record), share=20),
        Kind("ledger-state", "policy_governance", "governance account read from the ledger node", _ledger_state(scene), share=2),
        Kind("active-bundle", "policy_governance", "the bundle in force, with policies, guards and signature",
             document("policy_governance", "/api/v1/bundles/active"), share=1),
        Kind("who-am-i", "auth", "access token verified, identity returned", _me(scene.agents), share=4),
        Kind("introspect", "auth", "a service asks whether a token is active (RFC 7662); one in ten is forged and must not be",
             _introspect(scene), share=2),
        Kind("jwks", "auth", "published keys (public)", document("auth", "/.well-known/jwks.json", None), share=4),
        Kind("token", "auth", "client credentials exchanged for a newly signed token", _token(scene.agents), share=2),
        Kind("constitution", "constitutional_ai", "the constitution in force, in full",
             document("constitutional_ai", "/api/v1/constitutions/in-force"), share=5),
        Kind("principle", "constitutional_ai", "one principle in force", document("constitutional_ai", principle), share=5),
        Kind("entry", "integrity", "one entry of the log", _entry(scene), share=4),
        Kind("inclusion", "integrity", "inclusion proof, verified here against the signed checkpoint", _inclusion(scene), share=4),
        Kind("checkpoint", "integrity", "newest checkpoint, its signature verified here; the log never shrinks",
             _checkpoint(scene), share=3),
        Kind("certificate", "formal_verification", "the certificate of the bundle in force",
             document("formal_verification", f"/api/v1/certificates/{bundle.certificate_hash}"), share=2),
        Kind("report", "formal_verification", "a verification report with its obligations",
             document("formal_verification", f"/api/v1/verifications/{scene.report.id}"), share=2),
        Kind("draft", "governance_synthesis", "one draft in full",
             document("governance_synthesis", f"/api/v1/drafts/{scene.draft.id}"), share=3),
        Kind("run", "evolutionary_computation", "one finished run",
             document("evolutionary_computation", f"/api/v1/runs/{run.id}"), share=3),
        Kind("verify", "formal_verification", "two policies proved or refuted against one principle (a real verification, in turn "
             "right and wrong)", _verify(scene, record), per_second=0.5),
        Kind("new-draft", "governance_synthesis", "policies drafted from one principle, kept and logged",
             _new_draft(scene, record), per_second=1),
        Kind("new-run", "evolutionary_computation", "a search of one threshold over ten labels, under proof", _new_run(scene, record),
             per_second=0.1, repeatable=False),
        Kind("ballot", "policy_governance", "a member's vote: a signed transaction on the ledger, and an entry of the log",
             _ballot(scene), per_second=BALLOTS_PER_SECOND, repeatable=False),
    ]  # fmt: skip
    assert abs(sum(kind.share for kind in kinds) - 100) < 1e-9
    return kinds


def _json(status: int, body: bytes, expected: int = 200) -> dict[str, Any] | str:
    if status != expected:
        return f"status {status}: {body[:160].decode(errors='replace')}"
    value = json.loads(body)
    return value if isinstance(value, dict) else "the answer is not an object"


def _same(expected: bytes) -> Check:
    whole = json.loads(expected)

    def check(status: int, body: bytes) -> str | None:
        if status != 200:
            return f"status {status}: {body[:160].decode(errors='replace')}"
        # Almost always the same bytes; a cache level may give the members of an object in another order.
        return None if body == expected or json.loads(body) == whole else "the document has changed"

    return check


def _checked(expected: int, rule: Callable[[dict[str, Any]], str | None]) -> Check:
    def check(status: int, body: bytes) -> str | None:
        try:
            value = _json(status, body, expected)
            return value if isinstance(value, str) else rule(value)
        except (KeyError, TypeError, ValueError) as error:
            return f"{type(error).__name__} in the answer: {error}"

    return check


def _decisions(agents: list[Agent], cases: list[Case], record: Record) -> Make:
    def rule(case: Case) -> Check:
        def right(answer: dict[str, Any]) -> str | None:
            context = answer["context"]
            if context["reason"] == "not_recorded":
                return "not recorded, so not allowed"
            record.decisions[context["evaluation_id"]] = answer["decision"]
            if answer["decision"] is not case.allowed:
                return f"{case.name} decided {answer['decision']}, right is {case.allowed} ({context['reason']})"
            missing = case.principles - set(context.get("principles", ()))
            if missing and context["reason"] != "approval_required":
                return f"{case.name} does not name {', '.join(sorted(missing))}"
            return None

        return _checked(200, right)

    checks = [rule(case) for case in cases]
    requests = [[_decision_request(agent, case) for case in cases] for agent in agents]

    def make(random: Random, user: int) -> tuple[bytes, Check]:
        chosen = random.randrange(len(cases))
        return requests[user][chosen], checks[chosen]

    return make


def _decision_request(agent: Agent, case: Case) -> bytes:
    body = {**case.facts, "subject": {**case.facts["subject"], "id": agent.id}}
    return encode("POST", "/access/v1/evaluation", token=agent.token, body=json.dumps(body).encode())


def _ledger_state(scene: Scene) -> Make:
    def right(state: dict[str, Any]) -> str | None:
        if state["constitution_hash"] != scene.constitution_hash or not state["ratified"]:
            return "the ledger has another constitution"
        return None

    made = encode("GET", "/api/v1/ledger/state", token=scene.token), _checked(200, right)
    return lambda _, __: made


def _me(agents: list[Agent]) -> Make:
    def rule(agent: Agent) -> Check:
        return _checked(
            200,
            lambda me: None if me["id"] == agent.id and me["roles"] == ["agent"] else f"`{me['id']}` is not the caller",
        )

    made = [(encode("GET", "/api/v1/me", token=agent.token), rule(agent)) for agent in agents]
    return lambda _, user: made[user]


def _introspect(scene: Scene) -> Make:
    def made(token: str, check: Check) -> tuple[bytes, Check]:
        body = f"token={token}".encode()
        form = "application/x-www-form-urlencoded"
        return encode("POST", "/oauth2/introspect", token=scene.service_token, body=body, media_type=form), check

    def rule(agent: Agent) -> Check:
        def right(said: dict[str, Any]) -> str | None:
            good = said["active"] and said["sub"] == agent.id and said["scope"] == "agent"
            return None if good else f"the good token of `{agent.id}` is not said to be one"

        return _checked(200, right)

    def forged(token: str) -> str:
        content, _, signature = token.rpartition(".")
        return f"{content}.{'B' if signature.startswith('A') else 'A'}{signature[1:]}"

    inactive = _checked(200, lambda said: None if said == {"active": False} else "a forged token is said to be active")
    good = [made(agent.token, rule(agent)) for agent in scene.agents]
    bad = [made(forged(agent.token), inactive) for agent in scene.agents]
    return lambda random, user: (bad if random.randrange(10) == 0 else good)[user]


def _token(agents: list[Agent]) -> Make:
    def right(token: dict[str, Any]) -> str | None:
        whole = token["access_token"].count(".") == 2 and token["token_type"] == "Bearer" and token["expires_in"] > 0
        return None if whole else "not an access token"

    form = b"grant_type=client_credentials"
    check = _checked(200, right)
    made = [
        encode(
            "POST",
            "/oauth2/token",
            authorization=basic(agent),
            body=form,
            media_type="application/x-www-form-urlencoded",
        )
        for agent in agents
    ]
    return lambda _, user: (made[user], check)


def _entry(scene: Scene) -> Make:
    made = [
        (encode("GET", path, token=scene.token), _same(body))
        for (part, path), body in scene.documents.items()
        if part == "integrity"
    ]
    return lambda random, _: random.choice(made)


class _Log:
    """What the load has seen of the log: signatures are verified once per checkpoint."""

    def __init__(self, scene: Scene) -> None:
        self._verifier = scene.log
        self._seen: dict[str, Checkpoint] = {}

    def open(self, note: str) -> Checkpoint:
        if note not in self._seen:
            self._seen[note] = open_checkpoint(note, self._verifier)
        return self._seen[note]


def _inclusion(scene: Scene) -> Make:
    log = _Log(scene)

    def rule(index: int, leaf: str) -> Check:
        def right(proof: dict[str, Any]) -> str | None:
            if proof["leaf_index"] != index or proof["leaf_hash"] != leaf:
                return "the proof is for another leaf"
            try:
                head = log.open(proof["checkpoint"]).head
            except NoteError as error:
                return f"the checkpoint does not verify: {error}"
            hashes = [bytes.fromhex(h) for h in proof["hashes"]]
            return None if verify_inclusion(index, bytes.fromhex(leaf), head, hashes) else "the proof does not verify"

        return _checked(200, right)

    made = [
        (
            encode("GET", f"/api/v1/proofs/inclusion?event_id={e.event.id}", token=scene.token),
            rule(e.leaf_index, e.leaf_hash),
        )
        for e in scene.entries
    ]
    return lambda random, _: random.choice(made)


def _checkpoint(scene: Scene) -> Make:
    log = _Log(scene)
    least = max(entry.leaf_index for entry in scene.entries) + 1

    def right(checkpoint: dict[str, Any]) -> str | None:
        try:
            head = log.open(checkpoint["note"]).head
        except NoteError as error:
            return f"the checkpoint does not verify: {error}"
        if (head.size, head.root.hex()) != (checkpoint["tree_size"], checkpoint["root_hash"]):
            return "the checkpoint's fields are not those of its note"
        return None if head.size >= least else f"the log shrank to {head.size} leaves"

    made = encode("GET", "/api/v1/checkpoints/latest", token=scene.token), _checked(200, right)
    return lambda _, __: made


def _verify(scene: Scene, record: Record) -> Make:
    constitution = scene.constitution.model_dump(mode="json")

    def made(policies: str, verdict: str) -> tuple[bytes, Check]:
        def right(report: dict[str, Any]) -> str | None:
            record.made.append(("formal_verification", f"/api/v1/verifications/{report['id']}"))
            if report["verdict"] != verdict or not report["obligations"]:
                return (
                    f"verdict `{report['verdict']}` of {len(report['obligations'])} obligations, right is `{verdict}`"
                )
            return None

        body = json.dumps({"policies": policies, "constitution": constitution}).encode()
        return encode("POST", "/api/v1/verifications?wait=10", token=scene.token, body=body), _checked(201, right)

    return _alternating([made(GOOD, "proved"), made(BAD, "refuted")])


def _new_draft(scene: Scene, record: Record) -> Make:
    def right(draft: dict[str, Any]) -> str | None:
        record.made.append(("governance_synthesis", f"/api/v1/drafts/{draft['id']}"))
        return (
            None if draft["policies_hash"] == scene.draft.policies_hash else "the same principle became other policies"
        )

    body = json.dumps({"constitution": scene.constitution.model_dump(mode="json")}).encode()
    made = encode("POST", "/api/v1/drafts", token=scene.token, body=body), _checked(201, right)
    return lambda _, __: made


def _new_run(scene: Scene, record: Record) -> Make:
    labels = scene.run_labels[:10]
    name, _ = next(iter(scene.run.baseline.items()))
    policy, _, attribute = name.partition("/")

    def right(run: dict[str, Any]) -> str | None:
        record.made.append(("evolutionary_computation", f"/api/v1/runs/{run['id']}"))
        return (
            None
            if run["outcomes"] == len(labels) and list(run["baseline"]) == [name]
            else "the run is not the one asked for"
        )

    body = {
        "policies": scene.bundle.policies,
        "constitution": scene.constitution.model_dump(mode="json"),
        "tunables": [{"policy_id": policy, "attribute": attribute, "minimum": 0, "maximum": 600}],
        "outcomes": labels,
        "seed": 1,
    }
    made = encode("POST", "/api/v1/runs", token=scene.token, body=json.dumps(body).encode()), _checked(202, right)
    return lambda _, __: made


def _ballot(scene: Scene) -> Make:
    def rule(proposal_id: str) -> Check:
        return _checked(
            201,
            lambda ballot: None if ballot["proposal_id"] == proposal_id and ballot["signature"] else "not the ballot",
        )

    body = json.dumps({"choice": "against"}).encode()
    left = [
        (encode("POST", f"/api/v1/proposals/{proposal.id}/ballots", token=token, body=body), rule(proposal.id))
        for proposal in scene.proposals
        for token in scene.members.values()
    ]

    def make(_: Random, __: int) -> tuple[bytes, Check]:
        if not left:
            raise Exhausted
        return left.pop()

    return make


def _alternating(made: list[tuple[bytes, Check]]) -> Make:
    turn = 0

    def make(_: Random, __: int) -> tuple[bytes, Check]:
        nonlocal turn
        turn += 1
        return made[turn % len(made)]

    return make
