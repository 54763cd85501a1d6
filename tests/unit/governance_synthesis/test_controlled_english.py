"""Which sentences are rules, what they say in Cedar, and what is said of the others."""

import json

import acgs1_kernel as kernel
import pytest

from acgs1.services.governance_synthesis.adapters.grammar.reader import Reader, negations
from acgs1.services.governance_synthesis.domain.rules import CannotSay, policies_of
from acgs1.services.governance_synthesis.domain.sentences import sentences_of
from acgs1.services.governance_synthesis.domain.vocabulary import VocabularyError, cedar_string, vocabulary_of

SCHEMA = """
entity Clerk = { @phrase("the clerk is new") new: Bool };
@phrase("a robot")
entity Machine;
entity Parcel = {
  @phrase("the parcel") label: String,
  @phrase("the parcel is fragile") fragile: Bool,
  @phrase("the weight") weight?: Long,
  @phrase("the parcel belongs to the sender") own?: Bool,
  size: { @phrase("the length") length: Long },
  @phrase("the tags") tags: Set<String>,
};
entity Letter = { @phrase("the stamp's value") stamp: Long };
type Ctx = { @phrase("approved") approved: Bool, @phrase("the hour") hour: Long };
@phrase("send a parcel") action send appliesTo { principal: [Clerk], resource: [Parcel], context: Ctx };
@phrase("move") action move appliesTo { principal: [Clerk, Machine], resource: [Parcel, Letter], context: Ctx };
@phrase("burn a letter") action burn appliesTo { principal: [Clerk], resource: [Letter] };
action unnamed appliesTo { principal: [Clerk], resource: [Letter] };
"""
VOCABULARY = vocabulary_of(json.loads(kernel.schema_to_json(SCHEMA)))
READER = Reader(VOCABULARY)


def cedar(sentence: str) -> list[str]:
    """The drafted policies without annotations, after strict validation."""
    policies = policies_of(READER.read(sentence), VOCABULARY, "p.1", "p", sentence)
    kernel.validate_policies(SCHEMA, "".join(p.text for p in policies))
    return [p.text.splitlines()[-1] for p in policies]


def refusal(sentence: str) -> tuple[str, str]:
    """The reason, and the rest of the sentence from the position on."""
    with pytest.raises(CannotSay) as error:
        cedar(sentence)
    return error.value.reason, sentence[error.value.position :]


_SEND = 'principal is Clerk, action == Action::"send", resource is Parcel'


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("A clerk may send a parcel.", f"permit ({_SEND});"),
        ("A clerk must never send a parcel.", f"forbid ({_SEND});"),
        ("a CLERK may\n send  a parcel when the hour is 9.", f"permit ({_SEND}) when {{ (context.hour == 9) }};"),
        ("A clerk may send a parcel when the hour is not -1.", f"permit ({_SEND}) when {{ (context.hour != -1) }};"),
        ("A clerk may send a parcel when the hour is above 9.", f"permit ({_SEND}) when {{ (context.hour > 9) }};"),
        ("A clerk may send a parcel when the hour is below 9.", f"permit ({_SEND}) when {{ (context.hour < 9) }};"),
        ("A clerk may send a parcel when the hour is at least 9.", f"permit ({_SEND}) when {{ (context.hour >= 9) }};"),
        ("A clerk may send a parcel when the hour is at most 9.", f"permit ({_SEND}) when {{ (context.hour <= 9) }};"),
        (
            "A clerk may send a parcel when the clerk is new and the parcel is not fragile unless the length is more than 3.",
            f"permit ({_SEND}) when {{ (principal.new) && (!resource.fragile) }} unless {{ (resource.size.length > 3) }};",
        ),
        (
            "A clerk may send a parcel when it is not true that the clerk is new.",
            f"permit ({_SEND}) when {{ (!principal.new) }};",
        ),
        (
            "A clerk may send a parcel when the parcel is red.",
            f'permit ({_SEND}) when {{ (resource.label == "red") }};',
        ),
        (
            'A clerk may send a parcel when the parcel is not "very. red".',
            f'permit ({_SEND}) when {{ (resource.label != "very. red") }};',
        ),
        (
            "To send a parcel, a clerk needs a person\N{RIGHT SINGLE QUOTATION MARK}s approval when the hour is more than 20.",
            f"forbid ({_SEND}) when {{ (context.hour > 20) }} unless {{ context.approved }};",
        ),
        (
            "A clerk needs a person's approval to send a parcel.",
            f"forbid ({_SEND}) unless {{ context.approved }};",
        ),
        (
            "A robot may move when the stamp's value is 5.",
            'permit (principal is Machine, action == Action::"move", resource is Letter) when { (resource.stamp == 5) };',
        ),
    ],
)
def test_a_rule_sentence_becomes_the_policy_that_says_the_same(sentence: str, expected: str) -> None:
    assert cedar(sentence) == [expected]


def test_an_action_on_several_resource_types_gets_a_policy_for_each_that_has_the_attributes() -> None:
    first, second = cedar("A clerk may move when the hour is 9.")
    assert "resource is Parcel" in first
    assert "resource is Letter" in second
    assert len(cedar("A clerk may move when the length is 9.")) == 1


def test_an_absent_attribute_counts_against_the_request() -> None:
    assert (
        "when { (resource has weight && resource.weight < 5) }"
        in cedar("A clerk may send a parcel when the weight is less than 5.")[0]
    )
    assert (
        "when { (if resource has weight then resource.weight > 5 else true) }"
        in cedar("A clerk must never send a parcel when the weight is more than 5.")[0]
    )
    assert (
        "unless { (if resource has weight then resource.weight > 5 else true) }"
        in cedar("A clerk may send a parcel unless the weight is more than 5.")[0]
    )
    assert (
        "unless { (resource has weight && resource.weight < 5) }"
        in cedar("A clerk must never send a parcel unless the weight is less than 5.")[0]
    )
    assert (
        "when { (resource has own && !resource.own) }"
        in cedar("A clerk may send a parcel when the parcel does not belong to the sender.")[0]
    )


@pytest.mark.parametrize(
    ("sentence", "reason", "rest"),
    [
        ("Parcels are nice.", "a rule begins with `A clerk ...` or `A robot ...` or `To ...`", "Parcels are nice."),
        ("A clerk may eat a parcel.", "the schema knows `send a parcel`", "eat a parcel."),
        ("A clerk should send a parcel.", "expected `may` or `must` or `needs`", "should send a parcel."),
        ("A clerk may send a parcel when the wait is 5.", "the schema knows `the weight`", "the wait is 5."),
        ("A clerk may send a parcel when the hour is 5 or the clerk is new.", "expected `.` or `and` or `unless`", "or the clerk is new."),
        ("A clerk may send a parcel when the hour is at least many.", "expected a whole number", "many."),
        ("A clerk may send a parcel when the hour is late.", "is a whole number", "the hour is late."),
        ("A clerk may send a parcel when the parcel is more than 5.", "is a text", "the parcel is more than 5."),
        ("A clerk may send a parcel when the tags is red.", "`Set`", "the tags is red."),
        ("A clerk may send a parcel when the stamp's value is 5.", "says nothing about `send a parcel`", "the stamp's value is 5."),
        ("A clerk may send a parcel when the hour is 9223372036854775808.", "64 bits", "the hour is 9223372036854775808."),
        ("A robot may send a parcel.", "that takes `Clerk`", "A robot may send a parcel."),
        ("To burn a letter, a clerk needs a person's approval.", "no `approved", "burn a letter, a clerk needs a person's approval."),
        ("A clerk may send a parcel", "found the end", ""),
    ],
)  # fmt: skip
def test_a_sentence_that_is_no_rule_is_given_a_reason_and_the_place(sentence: str, reason: str, rest: str) -> None:
    found, found_rest = refusal(sentence)
    assert reason in found
    assert found_rest == rest


def test_every_character_of_a_text_belongs_to_a_sentence_or_is_white_space() -> None:
    text = '  One is 3.5 long. "Two. Still" two!\nThree? four'
    found = list(sentences_of(text))
    assert [s.text for s in found] == ["One is 3.5 long.", '"Two. Still" two!', "Three?", "four"]
    assert all(text[s.start :].startswith(s.text) for s in found)


@pytest.mark.parametrize(
    ("fact", "denied"),
    [
        ("the trip has begun", "the trip has not begun"),
        ("the booking belongs to the customer", "the booking does not belong to the customer"),
        ("the clerk carries keys", "the clerk does not carry keys"),
        ("the test passes", "the test does not pass"),
    ],
)
def test_a_clause_is_denied_as_english_denies_it(fact: str, denied: str) -> None:
    assert denied in negations(fact)
    assert f"it is not true that {fact}" in negations(fact)


def test_two_actions_with_one_phrase_are_refused() -> None:
    schema = """
      entity A;
      @phrase("go") action walk appliesTo { principal: [A], resource: [A] };
      @phrase("Go") action run appliesTo { principal: [A], resource: [A] };
    """
    with pytest.raises(VocabularyError, match="each action needs its own"):
        vocabulary_of(json.loads(kernel.schema_to_json(schema)))


def test_names_of_a_namespace_are_written_in_full() -> None:
    schema = """
      namespace Shop {
        type Ctx = { @phrase("the sum") sum: Long };
        entity Clerk;
        @phrase("sell") action sell appliesTo { principal: [Clerk], resource: [Clerk], context: Ctx };
      }
    """
    vocabulary = vocabulary_of(json.loads(kernel.schema_to_json(schema)))
    sentence = "A clerk may sell when the sum is 5."
    (policy,) = policies_of(Reader(vocabulary).read(sentence), vocabulary, "p.1", "p", sentence)
    kernel.validate_policies(schema, policy.text)
    assert 'action == Shop::Action::"sell", resource is Shop::Clerk' in policy.text


def test_a_cedar_string_survives_any_text() -> None:
    text = 'a "quote", a \\ and a \n and \x07 and é'
    (info,) = kernel.parse_policies(f"@note({cedar_string(text)}) permit (principal, action, resource);")
    assert info.annotations["note"] == text
