"""The vote's rules, checked on the Python model of the ledger program itself.

`acgs1.ledger.model` is run with symbolic numbers: a comparison that could go either way splits the run in two (z3 says which
ways are possible), so every path through the model's own code is walked, for all weights at once. What holds on every path
holds for every number; the state machine is walked to a bounded number of steps.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import z3

from acgs1.ledger.model import (
    BASIS_POINTS,
    MAX_WEIGHT,
    MIN_THRESHOLD_BP,
    Governance,
    Proposal,
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
        self.taken: list[int] = []
        self.pending: list[tuple[int, ...]] = []
        self.trace: list[str] = []
        self.broken: str | None = None
        self.undecided = False
        self._prefix = prefix
        self._solver = z3.Solver()
        self._solver.set("timeout", _QUERY_MS)

    def number(self, name: str, low: int, high: int) -> "Number":
        """Any whole number from `low` to `high`."""
        term = z3.Int(name)
        self._solver.add(term >= low, term <= high)
        return Number(self, term)

    def assume(self, claim: object) -> None:
        """Looks only at numbers for which `claim` holds."""
        self._solver.add(_term(claim))

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
        if position < len(self._prefix):
            truth = bool(self._prefix[position])
        else:
            can_be, can_fail = self._possible(condition), self._possible(z3.Not(condition))
            if not can_be and not can_fail:
                raise _Stop
            truth = can_be
            if can_be and can_fail:
                self.pending.append((*self.taken, 0))
        self.taken.append(int(truth))
        self._solver.add(condition if truth else z3.Not(condition))
        return truth

    def check(self, claim: object) -> None:
        """Notes a violation where `claim` can fail on this path."""
        self._solver.push()
        self._solver.add(z3.Not(_term(claim)))
        answer = self._solver.check()
        if answer == z3.sat:
            self.broken = ", ".join([*self.trace, " ".join(str(self._solver.model()).split())])
        elif answer != z3.unsat:
            self.undecided = True
        self._solver.pop()

    def _possible(self, condition: Any) -> bool:
        answer = str(self._solver.check(condition))
        if answer == "unknown":
            # INVARIANT: a way that may be possible is walked; a claim is never spared because of a time-out.
            return True
        return answer == "sat"


class Number:
    """A whole number that is not known; it computes and compares like an int."""

    def __init__(self, path: Path, term: Any) -> None:
        self._path = path
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


class Truth:
    """The outcome of a comparison; asking for it splits the path."""

    def __init__(self, path: Path, term: Any) -> None:
        self._path = path
        self.term = term

    def __bool__(self) -> bool:
        return self._path.branch(self.term)


def _term(value: object) -> Any:
    return value.term if isinstance(value, Number | Truth) else value


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
        paths += 1
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


def _state_machine(members: int, steps: int, kind: str) -> Callable[[Path], None]:
    """Every sequence of `steps` actions on one proposal (a policy, or the ratification of a freeze), by `members` members of
    any weight."""
    wallets = [f"member-{number}" for number in range(members)]
    actions: list[tuple[str, Callable[[Governance], object]]] = [
        (f"{wallet} votes {choice}", lambda g, w=wallet, c=choice: g.vote(w, 0, c, 5))
        for wallet in wallets
        for choice in _CHOICES
    ]
    later: list[tuple[str, Callable[[Governance], object]]] = [
        ("finalize early", lambda g: g.finalize(0, 5)),
        ("finalize late", lambda g: g.finalize(0, 200)),
        ("attest", lambda g: g.attest("verifier", "certificate", "content", g.constitution_version)),
        ("enact", lambda g: g.enact(0, 201)),
        ("cancel", lambda g: g.cancel(wallets[0], 0, 5)),
        ("cancel late", lambda g: g.cancel(wallets[0], 0, 200)),
        ("close", lambda g: g.close_proposal(wallets[0], 0, 201)),
    ]
    actions += later

    def program(path: Path) -> None:
        change_allowed = bool(path.choose(2))
        governance = Governance("council", "verifier", Rules(100, 6_000, 3_000, change_allowed))
        weights = [path.number(f"weight_{wallet}", 1, MAX_WEIGHT) for wallet in wallets]
        path.assume(sum(weights[1:], weights[0]) <= MAX_WEIGHT)
        governance.add_principle("council")
        for wallet, weight in zip(wallets, weights, strict=True):
            governance.register_member("council", wallet, cast("int", weight), 0)
        governance.ratify("council")
        if kind == "policy":
            governance.propose(wallets[0], kind, "content", "certificate", 100, 0)
        else:
            governance.emergency_action("emergency", "freeze_activation", None, 1_000, 0)
            governance.propose(wallets[0], kind, emergency_content(0), None, 100, 0)
        for _ in range(steps):
            name, act = actions[path.choose(len(actions))]
            proposal = governance.proposals[0]
            if proposal is None:
                raise _Stop
            before = replace(proposal)
            try:
                act(governance)
            except Refused:
                # INVARIANT: a refused action changes nothing, so this path is one of the shorter ones.
                raise _Stop from None
            path.trace.append(name)
            _check_state(path, governance, weights, before)

    return program


def _check_state(path: Path, governance: Governance, weights: list[Number], before: Proposal) -> None:
    proposal = governance.proposals[0]
    if proposal is None:
        path.check(before.status != "active")
        path.check(not before.awaits_enactment)
        return
    tally = proposal.tally
    for side in _CHOICES:
        voted = [weights[slot] for slot, choice in proposal.ballots.items() if choice == side]
        path.check(proposal.sides[side] == sum(voted[1:], voted[0]) if voted else proposal.sides[side] == 0)
    path.check(tally.cast <= tally.total)
    follows = {
        "active": {"active", "accepted", "rejected", "cancelled"},
        "accepted": {"accepted", "enacted"},
        "rejected": {"rejected", "enacted"} if proposal.rejection_acts else {"rejected"},
    }
    path.check(proposal.status in follows.get(before.status, {before.status}))
    path.check(proposal.status != "cancelled" or not proposal.ballots)
    enacted = proposal.status == "enacted"
    carried = proposal.status == "accepted" or (enacted and before.status == "accepted")
    if carried:
        path.check(tally.votes_for * BASIS_POINTS >= 6_000 * (tally.votes_for + tally.votes_against))
    if carried or enacted:
        path.check(tally.cast * BASIS_POINTS >= 3_000 * tally.total)
    if proposal.kind == "policy":
        path.check(enacted == ("content" in governance.policies))
        path.check(not enacted or governance.attestations.get("certificate") == ("content", 1))
        return
    freeze = governance.emergencies[0]
    if enacted and before.status != "enacted" and freeze is not None:
        path.check(freeze.status == ("confirmed" if before.status == "accepted" else "ended"))
    path.check(enacted or (freeze is not None and freeze.status == "active"))


Program = Callable[[Path], None]


def rules(steps: int = 3) -> tuple[tuple[str, Program], ...]:
    """What must hold; the state machine for two members and so many actions."""
    return (
        ("a vote that is called decided ends so, whatever the others do", _decided_stands),
        ("a further vote for never turns acceptance into rejection", _for_never_hurts),
        ("what is accepted has more weight for than against it, and reaches the threshold", _majority),
        ("no product of the arithmetic exceeds 128 bits", _fits),
        (
            f"in {steps} actions, a weight counts once and on one side; only attested, accepted proposals come into force",
            _state_machine(2, steps, "policy"),
        ),
        (
            f"in {steps} actions, an emergency ends or stays by what a quorum decided, and nobody voids that",
            _state_machine(2, steps, "emergency_ratification"),
        ),
    )


LIMITS: tuple[tuple[str, Program], ...] = (
    # A vote against can complete the quorum that a majority for it lacked: so of every quorum on votes cast.
    ("a further vote against never turns rejection into acceptance", _against_never_helps),
)
"""What one might expect and does not hold."""
