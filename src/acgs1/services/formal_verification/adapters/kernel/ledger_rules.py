"""The vote's rules, checked on the Python model of the ledger program itself.

`acgs1.ledger.model` is run with symbolic numbers: a comparison that could go either way splits the run in two (z3 says which
ways are possible), so every path through the model's own code is walked, for all weights at once. What holds on every path
holds for every number. The state machine of proposals is searched breadth first to a bounded number of actions: a state to which
several ways lead is looked at once.
"""

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

import z3

from acgs1.ledger.model import (
    BASIS_POINTS,
    MAX_WEIGHT,
    MIN_THRESHOLD_BP,
    Governance,
    Refused,
    Rules,
    Standing,
    Tally,
    emergency_content,
)

_QUERY_MS = 20_000
_MOST_PATHS = 50_000


@dataclass(frozen=True, slots=True)
class RuleResult:
    """`holds` is None where z3 could not decide a path, or there were too many. `example`: numbers that break the rule."""

    name: str
    holds: bool | None
    paths: int
    example: str | None = None


class _Stop(Exception):
    """This path is not to be walked any further."""


class Path:
    """One walk through the code: the choices made so far and what they say about the numbers."""

    def __init__(self, prefix: Sequence[int]) -> None:
        self.pending: list[tuple[int, ...]] = []
        self.trace: list[str] = []
        self.broken: str | None = None
        self.undecided = False
        self.chosen: frozenset[str] = frozenset()
        """What is so on this path and need not be so on others."""
        self.walked = 1
        """How many paths this one stands for."""
        self._known: dict[tuple[frozenset[str], str], tuple[str, str]] = {}
        """What z3 said, by what had been chosen and what was asked."""
        self._claims: list[Any] = []
        self._solver = z3.Solver()
        self._solver.set("timeout", _QUERY_MS)
        self._begin(prefix)

    def _begin(self, prefix: Sequence[int]) -> None:
        self.taken: list[int] = []
        self._prefix = prefix

    def resume(
        self, prefix: Sequence[int], trace: Sequence[str], chosen: frozenset[str], claims: Sequence[Any]
    ) -> None:
        """Goes on from where a path had come to, with the numbers made so far."""
        self._begin(prefix)
        self.trace, self.chosen, self._claims = list(trace), chosen, list(claims)
        self.pending = []

    @property
    def claims(self) -> tuple[Any, ...]:
        """What was chosen, as z3 knows it."""
        return tuple(self._claims)

    def number(self, name: str, low: int, high: int) -> "Number":
        """Any whole number from `low` to `high`."""
        term = z3.Int(name)
        self._solver.add(term >= low, term <= high)
        self._known.clear()
        return Number(self, term)

    def assume(self, claim: object) -> None:
        """Looks only at numbers for which `claim` holds."""
        self._solver.add(_term(claim))
        self._known.clear()

    def choose(self, options: int) -> int:
        """One of so many ways to go on; the others are walked as well."""
        position = len(self.taken)
        if position < len(self._prefix):
            option = self._prefix[position]
        else:
            option = 0
            self.pending += [(*self.taken, other) for other in range(1, options)]
        self.taken.append(option)
        return option

    def branch(self, condition: Any) -> bool:
        """The truth of a comparison, on this path."""
        position = len(self.taken)
        can_be, can_fail = self._possible(condition), self._possible(z3.Not(condition))
        if position < len(self._prefix):
            truth = bool(self._prefix[position])
        else:
            if not can_be and not can_fail:
                raise _Stop
            truth = can_be
            if can_be and can_fail:
                self.pending.append((*self.taken, 0))
        self.taken.append(int(truth))
        if can_be and can_fail:
            claim = condition if truth else z3.Not(condition)
            self.chosen |= {_text(claim)}
            self._claims.append(claim)
        return truth

    def check(self, *claims: object) -> None:
        """Notes a violation where one of `claims` can fail on this path."""
        whole = z3.simplify(z3.And(*(_term(claim) for claim in claims)))
        if z3.is_true(whole):
            return
        answer, example = self._ask(z3.Not(whole))
        if answer == "sat":
            self.broken = ", ".join([*self.trace, example])
        elif answer != "unsat":
            self.undecided = True

    def _possible(self, condition: Any) -> bool:
        # INVARIANT: a way that may be possible is walked; a claim is never spared because of a time-out.
        return self._ask(condition)[0] != "unsat"

    def _ask(self, condition: Any) -> tuple[str, str]:
        """Whether it can be so, and numbers for which it is."""
        key = self.chosen, _text(condition)
        if key not in self._known:
            answer = str(self._solver.check(*self._claims, condition))
            example = " ".join(str(self._solver.model()).split()) if answer == "sat" else ""
            self._known[key] = answer, example
        return self._known[key]


class Number:
    """A whole number that is not known; it computes and compares like an int."""

    def __init__(self, path: Path, term: Any) -> None:
        self._path = path
        self._text: str | None = None
        self.term = term

    def _made(self, term: Any) -> "Number":
        return Number(self._path, term)

    def _truth(self, term: Any) -> "Truth":
        return Truth(self._path, term)

    def __add__(self, other: object) -> "Number":
        return self._made(self.term + _term(other))

    def __radd__(self, other: object) -> "Number":
        return self._made(_term(other) + self.term)

    def __sub__(self, other: object) -> "Number":
        return self._made(self.term - _term(other))

    def __rsub__(self, other: object) -> "Number":
        return self._made(_term(other) - self.term)

    def __mul__(self, other: object) -> "Number":
        return self._made(self.term * _term(other))

    def __rmul__(self, other: object) -> "Number":
        return self._made(_term(other) * self.term)

    def __lt__(self, other: object) -> "Truth":
        return self._truth(self.term < _term(other))

    def __le__(self, other: object) -> "Truth":
        return self._truth(self.term <= _term(other))

    def __gt__(self, other: object) -> "Truth":
        return self._truth(self.term > _term(other))

    def __ge__(self, other: object) -> "Truth":
        return self._truth(self.term >= _term(other))

    def __eq__(self, other: object) -> "Truth":  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._truth(self.term == _term(other))

    def __ne__(self, other: object) -> "Truth":  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._truth(self.term != _term(other))

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __bool__(self) -> bool:
        return self._path.branch(self.term != 0)

    def __repr__(self) -> str:
        if self._text is None:
            self._text = _text(self.term)
        return self._text

    def __deepcopy__(self, _: object) -> "Number":
        return self


class Truth:
    """The outcome of a comparison; asking for it splits the path."""

    def __init__(self, path: Path, term: Any) -> None:
        self._path = path
        self.term = term

    def __bool__(self) -> bool:
        return self._path.branch(self.term)


def _term(value: object) -> Any:
    return value.term if isinstance(value, Number | Truth) else value


def _text(term: Any) -> str:
    """The same for terms that say the same in other words, as far as z3 simplifies them."""
    return z3.simplify(term).sexpr()


def frozen(value: object) -> Hashable:
    """What a state of the model is, whichever way it came about: dictionaries without their order, numbers by their terms."""
    match value:
        case Number():
            return repr(value)
        case dict():
            items = cast("dict[object, object]", value).items()
            return frozenset((frozen(name), frozen(each)) for name, each in items)
        case list() | tuple():
            return tuple(frozen(each) for each in cast("Sequence[object]", value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return tuple(frozen(getattr(value, field.name)) for field in fields(value))
        case _:
            return cast("Hashable", value)


def walk(name: str, program: Callable[[Path], None]) -> RuleResult:
    """Walks every path of `program` and says whether every claim that it checks holds."""
    queue: list[tuple[int, ...]] = [()]
    paths = 0
    undecided = False
    while queue:
        if paths >= _MOST_PATHS:
            return RuleResult(name, None, paths)
        path = Path(queue.pop())
        with suppress(_Stop):
            program(path)
        paths += path.walked
        queue += path.pending
        if path.broken is not None:
            return RuleResult(name, False, paths, path.broken)
        undecided = undecided or path.undecided
    return RuleResult(name, None if undecided else True, paths)


# --- the arithmetic of votes -----------------------------------------------------------------------------------------


def _tally(path: Path, *, grown_by: tuple[str, ...] = ()) -> tuple[Tally, Tally]:
    """Any tally, and the same with any further votes on the sides of `grown_by`, within the total weight."""
    total = path.number("total", 1, MAX_WEIGHT)
    now = {side: path.number(side, 0, MAX_WEIGHT) for side in ("for", "against", "abstain")}
    later = {side: n + path.number(f"more_{side}", 0, MAX_WEIGHT) if side in grown_by else n for side, n in now.items()}
    path.assume(later["for"] + later["against"] + later["abstain"] <= total)

    def made(sides: dict[str, Number]) -> Tally:
        # The model is typed for ints; a Number is one as far as it computes.
        return Tally(*cast("tuple[int, int, int]", tuple(sides.values())), cast("int", total))

    return made(now), made(later)


def _rules(path: Path, threshold: int) -> tuple[int, int]:
    """A threshold, and any quorum. (Both unknown would multiply two unknowns, which z3 seldom decides.)"""
    return threshold, cast("int", path.number("quorum_bp", 0, BASIS_POINTS))


_THRESHOLDS = (MIN_THRESHOLD_BP, 6_000, 6_667, 7_500, 9_000, BASIS_POINTS)


def _decided_stands(path: Path) -> None:
    threshold = _THRESHOLDS[path.choose(len(_THRESHOLDS))]
    quorum = path.number("quorum_bp", 0, BASIS_POINTS)
    path.trace.append(f"threshold {threshold}")
    now, later = _tally(path, grown_by=("for", "against", "abstain"))
    rejection_acts = bool(path.choose(2))
    standing = now.decided(threshold, cast("int", quorum), rejection_acts=rejection_acts)
    if standing is not Standing.OPEN:
        path.check(later.outcome(threshold, cast("int", quorum)) is standing)
    if standing is Standing.REJECTED and rejection_acts:
        path.check(later.quorum_reached(cast("int", quorum)))


def _for_never_hurts(path: Path) -> None:
    threshold, quorum = _rules(path, _THRESHOLDS[path.choose(len(_THRESHOLDS))])
    now, later = _tally(path, grown_by=("for",))
    if now.outcome(threshold, quorum) is Standing.ACCEPTED:
        path.check(later.outcome(threshold, quorum) is Standing.ACCEPTED)


def _majority(path: Path) -> None:
    threshold, quorum = _rules(path, _THRESHOLDS[path.choose(len(_THRESHOLDS))])
    now, _ = _tally(path)
    if now.outcome(threshold, quorum) is Standing.ACCEPTED:
        path.check(now.votes_for > now.votes_against)
        path.check(now.votes_for * BASIS_POINTS >= threshold * (now.votes_for + now.votes_against))


def _fits(path: Path) -> None:
    now, _ = _tally(path)
    for product in (
        now.cast * BASIS_POINTS,
        now.total * BASIS_POINTS,
        (now.votes_for + now.votes_against) * BASIS_POINTS,
    ):
        path.check(product <= 2**128 - 1)


def _against_never_helps(path: Path) -> None:
    threshold, quorum = _rules(path, _THRESHOLDS[path.choose(len(_THRESHOLDS))])
    now, later = _tally(path, grown_by=("against",))
    if now.outcome(threshold, quorum) is Standing.REJECTED:
        path.check(later.outcome(threshold, quorum) is Standing.REJECTED)


# --- the state machine of proposals ----------------------------------------------------------------------------------

_CHOICES = ("for", "against", "abstain")
_SET_WEIGHT, _REMOVE, _AMEND, _SUBJECT = range(4)
"""Proposals by index: three that were accepted before and can be carried out at any time, and the one that is voted on."""


@dataclass(frozen=True, slots=True)
class _State:
    """What the ledger has come to, by which actions, and for which numbers."""

    governance: Governance
    trace: tuple[str, ...]
    chosen: frozenset[str]
    claims: tuple[Any, ...]


def _state_machine(members: int, steps: int) -> Callable[[Path], None]:
    """Every sequence of `steps` actions on one proposal (a policy, an amendment, or the ratification of a freeze), by `members`
    members of any weight, while the register's changes and another amendment that were accepted before come into force at any
    moment."""
    wallets = [f"member-{number}" for number in range(members)]

    def search(path: Path) -> None:
        weights = [path.number(f"weight_{wallet}", 1, MAX_WEIGHT) for wallet in wallets]
        path.assume(sum(weights[1:], weights[0]) <= MAX_WEIGHT)
        new_weight = path.number("new_weight", 1, MAX_WEIGHT)
        actions = _actions(wallets, cast("int", new_weight))
        level = [
            _State(_begun(wallets, weights, new_weight, change_allowed, kind, attested), (), frozenset(), ())
            for change_allowed in (False, True)
            for kind, attested in (
                ("policy", False),
                ("policy", True),
                ("constitution", False),
                ("emergency_ratification", False),
            )
        ]
        seen: set[Hashable] = set()
        for _ in range(steps):
            reached: list[_State] = []
            for state in level:
                for action in actions:
                    for after in _outcomes(path, state, action):
                        _check_step(path, state.governance, after.governance)
                        key = frozen(after.governance), after.chosen
                        if key in seen:
                            continue
                        seen.add(key)
                        _check_state(path, after.governance, weights)
                        if path.broken is not None:
                            return
                        reached.append(after)
            level = reached
        path.walked = len(seen)

    return search


def _begun(
    wallets: list[str], weights: list[Number], new_weight: Number, change_allowed: bool, kind: str, attested: bool
) -> Governance:
    """A ratified constitution, its members, what was accepted before, and the proposal that is to be voted on."""
    governance = Governance("council", "verifier", Rules(100, 6_000, 3_000, change_allowed))
    governance.add_principle("council")
    for wallet, weight in zip(wallets, weights, strict=True):
        governance.register_member("council", wallet, cast("int", weight), 0)
    governance.ratify("council")
    last = wallets[-1]
    for earlier, content in (
        ("membership", repr(("set_weight", last, new_weight))),
        ("membership", repr(("remove_member", last))),
        ("constitution", "amended before"),
    ):
        index = governance.propose(wallets[0], earlier, content, None, 100, 0)
        governance.proposal(index).status = "accepted"
    content = "content"
    if kind == "emergency_ratification":
        governance.emergency_action("emergency", "freeze_activation", None, 1_000, 0)
        content = emergency_content(0)
    governance.propose(wallets[0], kind, content, "certificate" if kind == "policy" else None, 100, 0)
    if attested:
        governance.attest("verifier", "certificate", "content", governance.constitution_version)
    return governance


def _outcomes(path: Path, state: _State, action: tuple[str, Callable[[Governance], object]]) -> Iterator[_State]:
    """What the action makes of the state, for each way in which its comparisons can go; nothing where it is refused."""
    name, act = action
    queue: list[tuple[int, ...]] = [()]
    while queue:
        path.resume(queue.pop(), (*state.trace, name), state.chosen, state.claims)
        governance = copy.deepcopy(state.governance)
        with suppress(Refused, _Stop):
            act(governance)
            yield _State(governance, tuple(path.trace), path.chosen, path.claims)
        queue += path.pending
    path.pending = []


def _actions(wallets: list[str], new_weight: int) -> list[tuple[str, Callable[[Governance], object]]]:
    """Before the vote's end at 100, and after it."""
    last = wallets[-1]
    votes: list[tuple[str, Callable[[Governance], object]]] = [
        (f"{wallet} votes {choice}", lambda g, w=wallet, c=choice: g.vote(w, _SUBJECT, c, 5))
        for wallet in wallets
        for choice in _CHOICES
    ]
    others: list[tuple[str, Callable[[Governance], object]]] = [
        ("finalize early", lambda g: g.finalize(_SUBJECT, 5)),
        ("finalize late", lambda g: g.finalize(_SUBJECT, 200)),
        ("attest", lambda g: g.attest("verifier", "certificate", "content", g.constitution_version)),
        ("attest other content", lambda g: g.attest("verifier", "certificate", "other", g.constitution_version)),
        ("enact", lambda g: g.enact(_SUBJECT, 201)),
        ("cancel", lambda g: g.cancel(wallets[0], _SUBJECT, 5)),
        ("cancel late", lambda g: g.cancel(wallets[0], _SUBJECT, 200)),
        ("close", lambda g: g.close_proposal(wallets[0], _SUBJECT, 201)),
        (f"{last} gets another weight", lambda g: g.set_weight(last, last, new_weight, 5, _SET_WEIGHT)),
        (f"{last} is removed", lambda g: g.remove_member(last, last, 5, _REMOVE)),
        ("an earlier amendment is enacted", lambda g: g.enact(_AMEND, 5)),
    ]
    return votes + others


def _check_step(path: Path, before: Governance, after: Governance) -> None:
    """What an action may change."""
    old, new = before.proposals[_SUBJECT], after.proposals[_SUBJECT]
    if old is None:
        return
    if new is None:
        path.check(old.status != "active", not old.awaits_enactment)
        return
    follows = {
        "active": {"active", "accepted", "rejected", "cancelled"},
        "accepted": {"accepted", "enacted"},
        "rejected": {"rejected", "enacted"} if new.rejection_acts else {"rejected"},
    }
    path.check(new.status in follows.get(old.status, {old.status}))
    path.check(new.status != "cancelled" or not new.ballots)
    if new.status != "enacted" or old.status == "enacted":
        return
    if new.kind == "policy":
        # What was attested is this content, under the constitution that is in force as it is enacted.
        attested = before.attestations.get("certificate")
        path.check(attested == ("content", before.constitution_version))
    elif new.kind == "emergency_ratification":
        freeze = after.emergencies[0]
        path.check(freeze is None or freeze.status == ("confirmed" if old.status == "accepted" else "ended"))
    else:
        # An amendment changes the text that it set out to change, and no later one.
        path.check(new.constitution_version == before.constitution_version)
        path.check((after.constitution, after.constitution_version) == ("content", before.constitution_version + 1))


def _check_state(path: Path, governance: Governance, weights: list[Number]) -> None:
    """`weights`: of the members when the vote began, by slot."""
    proposal = governance.proposals[_SUBJECT]
    if proposal is None:
        return
    freeze = governance.emergencies[0] if proposal.kind == "emergency_ratification" else None
    tally = proposal.tally
    claims: list[object] = [tally.total == sum(weights[1:], weights[0]), tally.cast <= tally.total]
    for side in _CHOICES:
        voted = [weights[slot] for slot, choice in sorted(proposal.ballots.items()) if choice == side]
        claims.append(proposal.sides[side] == (sum(voted[1:], voted[0]) if voted else 0))
    enacted = proposal.status == "enacted"
    if proposal.status == "accepted" or (enacted and (freeze is None or freeze.status == "confirmed")):
        claims.append(tally.votes_for * BASIS_POINTS >= 6_000 * (tally.votes_for + tally.votes_against))
    if proposal.status in {"accepted", "enacted"}:
        claims.append(tally.cast * BASIS_POINTS >= 3_000 * tally.total)
    if proposal.kind == "policy":
        claims.append(enacted == ("content" in governance.policies))
    elif freeze is not None:
        claims.append(enacted or freeze.status == "active")
    else:
        claims.append(enacted or governance.constitution != "content")
    path.check(*claims)


Program = Callable[[Path], None]


def rules(steps: int = 4) -> tuple[tuple[str, Program], ...]:
    """What must hold; the state machine for two members and so many actions."""
    return (
        ("a vote that is called decided ends so, whatever the others do", _decided_stands),
        ("a further vote for never turns acceptance into rejection", _for_never_hurts),
        ("what is accepted has more weight for than against it, and reaches the threshold", _majority),
        ("no product of the arithmetic exceeds 128 bits", _fits),
        (
            f"in {steps} actions, a weight counts once, on one side and as it was when the vote began; only accepted proposals come "
            "into force, policies with a fresh attestation of their content, amendments over the text that they were about; an "
            "emergency ends or stays by what a quorum decided, and nobody voids that",
            _state_machine(2, steps),
        ),
    )


LIMITS: tuple[tuple[str, Program], ...] = (
    # A vote against can complete the quorum that a majority for it lacked: so of every quorum on votes cast.
    ("a further vote against never turns rejection into acceptance", _against_never_helps),
)
"""What one might expect and does not hold."""
