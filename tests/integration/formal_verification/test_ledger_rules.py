"""The vote's rules hold on every path through the Python model of the ledger program."""

from collections.abc import Callable
from typing import Any

import pytest

from acgs1.ledger import model
from acgs1.services.formal_verification.adapters.kernel import ledger_rules
from acgs1.services.formal_verification.adapters.kernel.ledger_rules import LIMITS, Path, rules, walk


@pytest.mark.parametrize(("name", "program"), rules(3), ids=[name for name, _ in rules(3)])
def test_the_rule_holds_for_all_weights(name: str, program: Callable[[Path], None]):
    result = walk(name, program)
    assert result.holds is True, result
    assert result.paths > 1 or program is ledger_rules._fits


@pytest.mark.parametrize(("name", "program"), LIMITS, ids=[name for name, _ in LIMITS])
def test_what_does_not_hold_is_shown_with_numbers(name: str, program: Callable[[Path], None]):
    result = walk(name, program)
    assert result.holds is False
    assert result.example is not None
    assert "more_against" in result.example


@pytest.mark.slow
def test_the_state_machine_holds_for_the_four_actions_that_enactment_takes():
    name, program = rules()[-1]
    assert walk(name, program).holds is True


def _noticed(monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, owner: Any = model) -> bool:
    """Whether some rule fails once the model is changed so."""
    monkeypatch.setattr(owner, attribute, value)
    return any(walk(name, program).holds is False for name, program in rules(2))


def _broken_by(monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, owner: Any = model.Governance) -> str:
    """The actions by which the state machine breaks a rule once the model is changed so."""
    monkeypatch.setattr(owner, attribute, value)
    name, program = rules()[-1]
    result = walk(name, program)
    assert result.holds is False
    assert result.example is not None
    return result.example


def _enacts(*, content: bool = False, fresh: bool = False, same_text: bool = False) -> Callable[..., None]:
    """`enact` without the checks of the attestation, or of the text that an amendment is about, that are not asked for."""

    def enact(self: model.Governance, index: int, now: int) -> None:
        proposal = self.proposal(index)
        if proposal.status != "accepted":
            raise model.Refused("ProposalNotAccepted")
        if proposal.kind == "constitution":
            if same_text and proposal.constitution_version != self.constitution_version:
                raise model.Refused("WrongConstitutionVersion")
            proposal.status, self.constitution = "enacted", proposal.content
            self.constitution_version += 1
            return
        attested = self.attestations.get(proposal.certificate or "")
        if content and (attested is None or attested[0] != proposal.content):
            raise model.Refused("AttestationMissing")
        if fresh and (attested is None or attested[1] != self.constitution_version):
            raise model.Refused("StaleAttestation")
        proposal.status = "enacted"
        self.policies[proposal.content] = (index, self.constitution_version)

    return enact


def test_an_enactment_without_attestation_is_noticed(monkeypatch: pytest.MonkeyPatch):
    assert _broken_by(monkeypatch, "enact", _enacts(same_text=True)).count("enact") == 1


@pytest.mark.slow
def test_an_enactment_with_a_stale_attestation_is_noticed(monkeypatch: pytest.MonkeyPatch):
    example = _broken_by(monkeypatch, "enact", _enacts(content=True, same_text=True))
    assert "an earlier amendment is enacted" in example


@pytest.mark.slow
def test_an_enactment_of_other_content_than_was_attested_is_noticed(monkeypatch: pytest.MonkeyPatch):
    assert "attest other content" in _broken_by(monkeypatch, "enact", _enacts(fresh=True, same_text=True))


@pytest.mark.slow
def test_an_amendment_over_another_text_than_it_was_about_is_noticed(monkeypatch: pytest.MonkeyPatch):
    example = _broken_by(monkeypatch, "enact", _enacts(content=True, fresh=True))
    assert "an earlier amendment is enacted" in example


def test_a_weight_that_changes_during_a_vote_is_noticed(monkeypatch: pytest.MonkeyPatch):
    example = _broken_by(monkeypatch, "weight_for", lambda self, _: self.weight, model.Member)
    assert "member-1 votes" in example
    assert "another weight" in example or "removed" in example


def test_a_threshold_that_rounds_down_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def carries(votes_for: int, votes_against: int, threshold_bp: int) -> bool:
        return votes_for > 0 and votes_for * 10_000 + 9_999 >= threshold_bp * (votes_for + votes_against)

    assert _noticed(monkeypatch, "carries", carries)


def test_an_early_decision_that_forgets_the_remaining_weight_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def decided(self: model.Tally, threshold_bp: int, quorum_bp: int, **_: bool) -> model.Standing:
        return self.outcome(threshold_bp, quorum_bp)

    assert _noticed(monkeypatch, "decided", decided, model.Tally)


def test_an_early_rejection_whose_quorum_may_still_come_is_noticed(monkeypatch: pytest.MonkeyPatch):
    right = model.Tally.decided

    def decided(self: model.Tally, threshold_bp: int, quorum_bp: int, **_: bool) -> model.Standing:
        return right(self, threshold_bp, quorum_bp, rejection_acts=False)

    assert _noticed(monkeypatch, "decided", decided, model.Tally)


@pytest.mark.slow
def test_a_proposer_who_can_void_what_was_voted_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def cancel(self: model.Governance, by: str, index: int, now: int) -> None:
        self.proposal(index).status = "cancelled"

    with monkeypatch.context() as changed:
        assert _noticed(changed, "cancel", cancel, model.Governance)

    def close_proposal(self: model.Governance, by: str, index: int, now: int) -> None:
        if self.proposal(index).status in ("active", "accepted"):
            raise model.Refused("ProposalNotClosable")
        self.proposals[index] = None

    monkeypatch.setattr(model.Governance, "close_proposal", close_proposal)
    name, program = rules(3)[-1]
    assert walk(name, program).holds is False


def test_a_ballot_that_counts_twice_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def vote(self: model.Governance, by: str, index: int, choice: str, now: int) -> None:
        member, proposal = self.members[by], self.proposal(index)
        if proposal.status != "active":
            raise model.Refused("ProposalNotActive")
        proposal.sides[choice] += member.weight
        proposal.ballots[member.slot] = choice

    assert _noticed(monkeypatch, "vote", vote, model.Governance)


def test_every_path_of_a_program_is_walked():
    seen: set[tuple[bool, bool, int]] = set()

    def program(path: Path) -> None:
        x = path.number("x", 0, 10)
        seen.add((bool(x > 5), bool(x > 3), path.choose(2)))

    assert walk("p", program).paths == 6
    assert seen == {(a, b, c) for a, b in ((True, True), (False, True), (False, False)) for c in (0, 1)}
