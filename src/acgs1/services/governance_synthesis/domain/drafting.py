"""From principles to a policy set."""

from collections.abc import Callable
from dataclasses import dataclass, field

from acgs1.contracts.constitution import Constitution, Never, Principle
from acgs1.contracts.governance_synthesis import Sentence, Strategy
from acgs1.services.governance_synthesis.domain.rules import CannotSay, Drafted, Rule, base_permits, policies_of
from acgs1.services.governance_synthesis.domain.sentences import RawSentence, sentences_of
from acgs1.services.governance_synthesis.domain.vocabulary import Vocabulary, normal

ReadSentence = Callable[[str], Rule]
"""Reads one sentence; raises CannotSay."""


@dataclass(frozen=True, slots=True)
class PolicySetDraft:
    """What came of a constitution: Cedar text, and an account of every sentence."""

    policies: str
    sentences: list[Sentence]
    actions_without_policy: list[str]


@dataclass(slots=True)
class _Work:
    permits: list[Drafted] = field(default_factory=list[Drafted])
    forbids: list[Drafted] = field(default_factory=list[Drafted])
    sentences: list[Sentence] = field(default_factory=list[Sentence])
    permitted: set[str] = field(default_factory=set[str])
    restricted: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """action phrase -> (policy id, principle id) of the first sentence that restricts it"""
    unread: list[str] = field(default_factory=list[str])


def draft(constitution: Constitution, vocabulary: Vocabulary, read: ReadSentence, strategy: Strategy) -> PolicySetDraft:
    """One policy per sentence, named `<principle>.<number of the sentence>`.

    An action that sentences only restrict gets base permits, unless a sentence that names it could not be read: that one might have said
    when it is allowed, and a misspelling must not widen anything. `permissive` leaves out the forbids of principles that have a
    `never` invariant.
    """
    work = _Work()
    for principle in constitution.principles:
        left_out = strategy == "permissive" and any(isinstance(i, Never) for i in principle.invariants)
        for number, sentence in enumerate(sentences_of(principle.text), start=1):
            work.sentences.append(_account(work, principle, sentence, number, vocabulary, read, left_out))
    for phrase, (policy_id, principle_id) in work.restricted.items():
        if phrase not in work.permitted and not any(phrase in text for text in work.unread):
            action = vocabulary.action_named(phrase)
            work.permits += base_permits(action, f"{policy_id}.base", principle_id)
            work.permitted.add(phrase)
    return PolicySetDraft(
        "\n".join(d.text for d in [*work.permits, *work.forbids]),
        work.sentences,
        [a.name for a in vocabulary.actions if a.phrase not in work.permitted],
    )


def _account(
    work: _Work,
    principle: Principle,
    sentence: RawSentence,
    number: int,
    vocabulary: Vocabulary,
    read: ReadSentence,
    left_out: bool,
) -> Sentence:
    policy_id = f"{principle.id}.{number}"
    try:
        rule = read(sentence.text)
        drafted = policies_of(rule, vocabulary, policy_id, principle.id, sentence.text)
    except CannotSay as error:
        work.unread.append(normal(sentence.text))
        return Sentence(
            principle_id=principle.id,
            text=sentence.text,
            start=sentence.start,
            policy_ids=[],
            reason=error.reason,
            position=sentence.start + error.position,
        )
    reason = None
    if not rule.forbids:
        work.permitted.add(rule.action)
        work.permits += drafted
    else:
        work.restricted.setdefault(rule.action, (policy_id, principle.id))
        if left_out:
            drafted, reason = [], "left out by the strategy `permissive`"
        work.forbids += drafted
    return Sentence(
        principle_id=principle.id,
        text=sentence.text,
        start=sentence.start,
        policy_ids=[d.id for d in drafted],
        reason=reason,
    )
