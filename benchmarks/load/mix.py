"""The mix: what the users ask for, how often, and which answer is right.

Documents are asked for as people ask for them: many of them, some far more often than others (Zipf's law with exponent 1, the newest
first), each by callers of its own. What is written or computed is another content every time.
"""

import json
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

from benchmarks.load.client import BROKEN, encode
from benchmarks.load.inputs import (
    AMENDED,
    Inputs,
    agreement,
    best_agreement,
    fresh_numbers,
    labels,
    some,
)
from benchmarks.load.scene import Agent, Case, Document, Scene, basic, case_body

from acgs1.contracts.events import EventBatch, new_event
from acgs1.core.clock import SystemClock
from acgs1.core.hashing import text_hash
from acgs1.core.merkle import verify_inclusion
from acgs1.kit.notes import Checkpoint, NoteError, open_checkpoint


@dataclass(frozen=True, slots=True)
class Then:
    """An answer that is right so far, and what to ask next: the request is over when the last exchange is. It can be repeated."""

    data: bytes
    check: "Check"


Check = Callable[[int, bytes], "str | Then | None"]
"""What is wrong with an answer, what comes after it, or None."""

Make = Callable[[Random, int], tuple[bytes, Check]]
"""The bytes of a request for one user, and the check of its answer. Raises Exhausted."""


class Exhausted(Exception):
    """There is nothing left to ask of this kind (every ballot has been cast)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: `share` in percent of what is left of the offered rate after the kinds that come `per_second` whatever the
    rate. `writes`: it makes something, or has something computed that no cache could have."""

    name: str
    service: str
    does: str
    make: Make
    share: float = 0.0
    per_second: float = 0.0
    writes: bool = False
    repeatable: bool = True
    """Whether a client may send it again without knowing what became of the first one."""


Repeatable = frozenset({BROKEN, 502, 503, 504})
"""What a client that retries once takes for a reason to: a broken connection, or a status that says `not now`. Not an answer that did not
come in time: whoever waits would only wait longer, and a system that is overloaded would get twice the load."""


@dataclass(slots=True)
class Record:
    """What the acknowledgements leave behind, to be looked for afterwards: `events` that the log must hold, by type and key (see
    `record_check.KEYS`) with what they must say; where what was `made` can be found; `ballots` by signature with their proposal."""

    events: dict[str, dict[str, str]] = field(default_factory=dict)
    made: list[tuple[str, str]] = field(default_factory=list)
    ballots: dict[str, str] = field(default_factory=dict)

    def logged(self, event_type: str, key: str, says: str) -> None:
        self.events.setdefault(event_type, {})[key] = says


VERSION = 2
"""Of the mix: figures of different mixes are not compared."""
BALLOTS_PER_SECOND = 2.0
_POLL_SECONDS = 2
_MOST_POLLS = 15
APPENDED = "benchmark.appended"


def build(scene: Scene, record: Record) -> list[Kind]:
    """All kinds. The shares add up to 100; at 500/s, decisions are 54 % of everything."""
    allow = [case for case in scene.cases if case.allowed]
    deny = [case for case in scene.cases if not case.allowed]
    agents, people = [agent.token for agent in scene.agents], scene.people
    new = _New(scene, record)

    def documents(kind: str, tokens: Sequence[str]) -> Make:
        return _documents(scene.library[kind], tokens)

    kinds = [
        Kind("decide-allow", "policy_governance", "AuthZEN decision that must allow; durable in the spool before the answer, then an "
             "entry of the log", _decisions(scene.agents, allow, record), share=34.6, writes=True),
        Kind("decide-deny", "policy_governance", "AuthZEN decision that must deny and name the principles; durable and logged likewise",
             _decisions(scene.agents, deny, record), share=20.4, writes=True),
        Kind("ledger-state", "policy_governance", "governance account read from the ledger node", _ledger_state(scene), share=1.4),
        Kind("bundle", "policy_governance", "the bundle in force, or one that is not, with policies, guards and signature",
             documents("bundle", agents), share=0.8),
        Kind("decision", "policy_governance", "one decision with the request that was decided, for a person who may see it",
             documents("decision", people), share=1),
        Kind("who-am-i", "auth", "access token verified, identity returned", _me(scene.agents), share=4),
        Kind("introspect", "auth", "a service asks whether a token is active (RFC 7662); one in ten is forged and must not be",
             _introspect(scene), share=2),
        Kind("jwks", "auth", "published keys (public)", documents("jwks", [""]), share=4),
        Kind("token", "auth", "client credentials exchanged for a newly signed token", _token(scene.agents), share=2, writes=True),
        Kind("constitution-in-force", "constitutional_ai", "the constitution in force, in full", documents("in-force", agents), share=4),
        Kind("constitution", "constitutional_ai", "one constitution in full, by its hash; most of them are drafts",
             documents("constitution", agents), share=2),
        Kind("principle", "constitutional_ai", "one principle in force", documents("principle", agents), share=4),
        Kind("entry", "integrity", "one entry of the log, read by the agent that acted, or by a person who may see all",
             documents("entry", people), share=3.6),
        Kind("inclusion", "integrity", "inclusion proof, verified here against the signed checkpoint", _inclusion(scene), share=3.6),
        Kind("checkpoint", "integrity", "newest checkpoint, its signature verified here; the log never shrinks",
             _checkpoint(scene), share=2.6),
        Kind("certificate", "formal_verification", "one certificate", documents("certificate", people), share=2),
        Kind("report", "formal_verification", "a verification report with its obligations", documents("report", people), share=2),
        Kind("draft", "governance_synthesis", "one draft in full", documents("draft", people), share=3),
        Kind("run", "evolutionary_computation", "one finished run", documents("run", people), share=3),
        Kind("new-constitution", "constitutional_ai", "an amended constitution: every invariant compiled, kept as a draft, logged",
             new.constitution, per_second=1, writes=True),
        Kind("difference", "constitutional_ai", "what a draft would change in the constitution in force, worked out",
             new.difference, per_second=1, writes=True),
        Kind("append", "integrity", "a service logs an event of its own; durable before the receipt", new.append, per_second=2,
             writes=True),
        Kind("verify-new", "formal_verification", "policies with a new number proved or refuted against three principles, by the solver",
             new.verification, per_second=1, writes=True),
        Kind("verify-known", "formal_verification", "policies that were proved or refuted before, verified once more",
             new.known_verification, per_second=0.5, writes=True),
        Kind("new-draft", "governance_synthesis", "policies with a new number drafted from two principles, kept and logged",
             new.draft, per_second=1, writes=True),
        Kind("new-run", "evolutionary_computation", "a search of one threshold over twenty labels, under proof, until it is done; what "
             "it found must agree as well with the labels as the best there is", new.run, per_second=0.2, writes=True, repeatable=False),
        Kind("ballot", "policy_governance", "a member's vote: a signed transaction on the ledger, and an entry of the log",
             _ballot(scene, record), per_second=BALLOTS_PER_SECOND, writes=True, repeatable=False),
    ]  # fmt: skip
    assert abs(sum(kind.share for kind in kinds) - 100) < 1e-9
    return kinds


class Popularity:
    """Draws one of `count` things; the n-th is drawn with a probability in proportion to 1/n (Zipf's law, exponent 1)."""

    def __init__(self, count: int) -> None:
        self._limits = list(accumulate(1 / rank for rank in range(1, count + 1)))

    def draw(self, random: Random) -> int:
        return min(bisect(self._limits, random.random() * self._limits[-1]), len(self._limits) - 1)


def _documents(documents: Sequence[Document], tokens: Sequence[str]) -> Make:
    popularity = Popularity(len(documents))
    checks = [_same(document.body) for document in documents]

    def make(random: Random, user: int) -> tuple[bytes, Check]:
        chosen = popularity.draw(random)
        token = documents[chosen].reader or tokens[user % len(tokens)]
        return encode("GET", documents[chosen].path, token=token or None), checks[chosen]

    return make


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


def _checked(expected: int, rule: Callable[[dict[str, Any]], str | Then | None]) -> Check:
    def check(status: int, body: bytes) -> str | Then | None:
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
            record.logged("decision.made", context["evaluation_id"], "allow" if answer["decision"] else "deny")
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
    body = json.dumps(case_body(agent, case)).encode()
    return encode("POST", "/access/v1/evaluation", token=agent.token, body=body)


def _ledger_state(scene: Scene) -> Make:
    def right(state: dict[str, Any]) -> str | None:
        if state["constitution_hash"] != scene.constitution_hash or not state["ratified"]:
            return "the ledger has another constitution"
        return None

    check = _checked(200, right)
    made = [encode("GET", "/api/v1/ledger/state", token=token) for token in scene.people]
    return lambda _, user: (made[user % len(made)], check)


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

    checks = [rule(entry.leaf_index, entry.leaf_hash) for entry in scene.entries]
    popularity = Popularity(len(checks))

    def make(random: Random, user: int) -> tuple[bytes, Check]:
        chosen = popularity.draw(random)
        token = scene.library["entry"][chosen].reader or scene.people[user % len(scene.people)]
        path = f"/api/v1/proofs/inclusion?event_id={scene.entries[chosen].event.id}"
        return encode("GET", path, token=token), checks[chosen]

    return make


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

    check = _checked(200, right)
    made = [encode("GET", "/api/v1/checkpoints/latest", token=agent.token) for agent in scene.agents]
    return lambda _, user: (made[user], check)


class _New:
    """Requests that make something, or have something worked out, each with a number of its own."""

    def __init__(self, scene: Scene, record: Record) -> None:
        self._scene = scene
        self._record = record
        self._inputs = Inputs(scene.whole)
        self._numbers = fresh_numbers()
        self._labels = labels()
        self._clock = SystemClock()
        self._known = 0

    def _person(self, user: int) -> str:
        return self._scene.people[user % len(self._scene.people)]

    def _post(self, path: str, user: int, body: dict[str, Any]) -> bytes:
        return encode("POST", path, token=self._person(user), body=json.dumps(body).encode())

    # --- constitutional_ai ---

    def constitution(self, _: Random, user: int) -> tuple[bytes, Check]:
        asked = self._inputs.amendment(next(self._numbers))

        def right(kept: dict[str, Any]) -> str | None:
            self._record.logged("constitution.drafted", kept["hash"], asked.name)
            self._record.made.append(("constitutional_ai", f"/api/v1/constitutions/{kept['hash']}"))
            whole = (
                kept["hash"] == asked.hash and kept["status"] == "draft" and kept["principles"] == len(asked.principles)
            )
            return None if whole else "not the constitution that was sent"

        return self._post("/api/v1/constitutions", user, asked.model_dump(mode="json")), _checked(201, right)

    def difference(self, random: Random, user: int) -> tuple[bytes, Check]:
        draft = random.choice(self._scene.amendments)

        def right(found: dict[str, Any]) -> str | None:
            changes = [(change["change"], change["principle"]["id"]) for change in found["principles"]]
            same = (found["old_hash"], found["new_hash"]) == (self._scene.constitution_hash, draft)
            return None if same and changes == [("amend", AMENDED)] and not found["text"] else "not what was amended"

        path = f"/api/v1/constitutions/{draft}/difference"
        return encode("GET", path, token=self._person(user)), _checked(200, right)

    # --- integrity ---

    def append(self, _: Random, user: int) -> tuple[bytes, Check]:
        number = next(self._numbers)
        event = new_event(
            "policy_governance", APPENDED, self._clock.now(), actor=f"load-user-{user}", subject="load", number=number
        )

        def right(answer: dict[str, Any]) -> str | None:
            (receipt,) = answer["receipts"]
            if receipt["event_id"] != event.id or receipt["leaf_index"] < 0:
                return "not the receipt of this event"
            self._record.logged(APPENDED, event.id, str(number))
            return None

        body = EventBatch(events=[event]).model_dump_json().encode()
        return encode("POST", "/api/v1/events", token=self._scene.service_token, body=body), _checked(200, right)

    # --- formal_verification ---

    def verification(self, random: Random, user: int) -> tuple[bytes, Check]:
        return self._verification(next(self._numbers), random.randrange(3) > 0, user, solved=True)

    def known_verification(self, _: Random, user: int) -> tuple[bytes, Check]:
        self._known += 1
        ceiling, proved = self._scene.verified[self._known % len(self._scene.verified)]
        return self._verification(ceiling, proved, user, solved=False)

    def _verification(self, ceiling: int, proved: bool, user: int, *, solved: bool) -> tuple[bytes, Check]:
        verdict = "proved" if proved else "refuted"

        def right(report: dict[str, Any]) -> str | None:
            self._record.logged("verification.completed", report["id"], report["verdict"])
            if report["certificate_hash"]:
                self._record.logged("certificate.issued", report["certificate_hash"], report["id"])
            self._record.made.append(("formal_verification", f"/api/v1/verifications/{report['id']}"))
            obligations = report["obligations"]
            if report["verdict"] != verdict or not obligations:
                return f"verdict `{report['verdict']}` of {len(obligations)} obligations, right is `{verdict}`"
            if not proved and not any(o["counterexample"] for o in obligations if o["principle_id"] == AMENDED):
                return "refuted without a counterexample"
            if solved and not any(o["strength"] in {"one_solver", "two_solvers", "replayed"} for o in obligations):
                return "nothing of it was solved anew"
            return None

        return self._post("/api/v1/verifications?wait=10", user, self._scene.to_verify(ceiling, proved)), _checked(
            201, right
        )

    # --- governance_synthesis ---

    def draft(self, _: Random, user: int) -> tuple[bytes, Check]:
        number = next(self._numbers)
        expected = text_hash(self._inputs.as_drafted(self._scene.pattern, number))

        def right(draft: dict[str, Any]) -> str | None:
            self._record.logged("draft.created", draft["id"], draft["policies_hash"])
            self._record.made.append(("governance_synthesis", f"/api/v1/drafts/{draft['id']}"))
            return None if draft["policies_hash"] == expected else "not the policies that these sentences say"

        body = {"constitution": self._inputs.to_draft(number).model_dump(mode="json")}
        return self._post("/api/v1/drafts", user, body), _checked(201, right)

    # --- evolutionary_computation ---

    def run(self, _: Random, user: int) -> tuple[bytes, Check]:
        number = next(self._numbers)
        asked = some(self._labels, number)

        def begun(run: dict[str, Any]) -> str | Then:
            self._record.logged("run.started", run["id"], str(number))
            self._record.made.append(("evolutionary_computation", f"/api/v1/runs/{run['id']}"))
            return self._until_done(run, asked, self._person(user), _MOST_POLLS)

        return self._post("/api/v1/runs", user, self._scene.to_search(asked, number)), _checked(202, begun)

    def _until_done(self, run: dict[str, Any], asked: list[dict[str, Any]], token: str, polls: int) -> str | Then:
        if not polls:
            return f"the run is not done after {_MOST_POLLS * _POLL_SECONDS} s"

        def looked(now: dict[str, Any]) -> "str | Then | None":
            if now["status"] == "running":
                return self._until_done(run, asked, token, polls - 1)
            self._record.logged("run.finished", now["id"], now["status"])
            return _fault_of(now, asked)

        path = f"/api/v1/runs/{run['id']}?wait={_POLL_SECONDS}"
        return Then(encode("GET", path, token=token), _checked(200, looked))


def _fault_of(run: dict[str, Any], asked: list[dict[str, Any]]) -> str | None:
    """What is wrong with a finished search; what it should have found is worked out here."""
    best, (baseline,) = run["best"], run["baseline"].values()
    if run["status"] != "done" or best is None or run["oversight"]["outcome"] != "approved":
        return f"the run is `{run['status']}` without a candidate: {run['detail']}"
    (threshold,) = best["values"].values()
    expected = best_agreement(asked)
    figures = [
        ("the baseline's agreement", run["baseline_agreement"], agreement(asked, baseline)),
        ("the best one's agreement", best["agreement"], agreement(asked, threshold)),
        ("the best agreement there is", best["agreement"], expected),
    ]
    wrong = [
        f"{name} is said to be {said:g}, right is {right:g}"
        for name, said, right in figures
        if abs(said - right) > 1e-9
    ]
    return "; ".join(wrong) or None


def _ballot(scene: Scene, record: Record) -> Make:
    def rule(proposal_id: str, choice: str) -> Check:
        def right(ballot: dict[str, Any]) -> str | None:
            record.logged("ballot.cast", ballot["signature"], choice)
            record.ballots[ballot["signature"]] = proposal_id
            same = (ballot["proposal_id"], ballot["choice"]) == (proposal_id, choice) and ballot["weight"] > 0
            return None if same else "not the ballot"

        return _checked(201, right)

    def request(proposal_id: str, token: str, choice: str) -> tuple[bytes, Check]:
        path = f"/api/v1/proposals/{proposal_id}/ballots"
        return encode("POST", path, token=token, body=json.dumps({"choice": choice}).encode()), rule(
            proposal_id, choice
        )

    left = [
        request(proposal.id, token, "abstain" if number % 5 == 4 else "against")
        for proposal in reversed(scene.proposals)
        for number, token in enumerate(scene.members.values())
    ]

    def make(_: Random, __: int) -> tuple[bytes, Check]:
        if not left:
            raise Exhausted
        return left.pop()

    return make
