"""A text that is parsed in the light of the one before it is parsed as it would be alone."""

import acgs1_kernel as kernel
from hypothesis import given, settings
from hypothesis import strategies as st

from acgs1.services.formal_verification.adapters.kernel.cedar import Parser

_ids = st.integers(0, 40).map(lambda n: f"p{n}")
_policy = st.builds(
    lambda name, effect, condition, shape: shape.format(name=name, effect=effect, condition=condition),
    _ids,
    st.sampled_from(["permit", "forbid"]),
    st.sampled_from(["context.x", '"two\nlines" == context.s', "context.x // a comment; with signs {\n"]),
    st.sampled_from(
        [
            *['@id("{name}") {effect}(principal, action, resource) when {{ {condition} }};'] * 6,
            '@id("{name}")\n{effect} (\n  principal,\n  action,\n  resource\n)\nwhen {{ {condition} }};',
            '{effect}(principal, action, resource) when {{ {condition} }}; @id("{name}") forbid(principal, action, resource);',
        ]
    ),
)
# Mostly whole policies: a text with a fault is parsed whole, which is not what is to be tested most.
_pieces = st.one_of(*[_policy] * 12, st.sampled_from(["// said between", "", "permit(principal", '@note("n")']))
_texts = st.builds(
    lambda pieces, separators: "".join(piece + by for piece, by in zip(pieces, separators, strict=False)),
    st.lists(_pieces, max_size=8),
    st.lists(st.sampled_from([*["\n"] * 6, "\n\n", " "]), min_size=8, max_size=8),
)


def outcome(parser: Parser, text: str) -> object:
    try:
        return [(p.policy, p.end_line, p.info.text, p.info.column, p.info.principal) for p in parser.parse(text, "p")]
    except kernel.CedarParseError as error:
        return [(d.line, d.column, d.message) for d in error.diagnostics]


@settings(max_examples=300)
@given(st.lists(_texts, min_size=2, max_size=5), st.data())
def test_a_text_means_the_same_whatever_was_parsed_before(texts: list[str], data: st.DataObject) -> None:
    parser = Parser()
    for text in texts:
        assert outcome(parser, text) == outcome(Parser(), text)
        # Mostly like it: one line of it is another.
        lines = text.split("\n")
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at : at + data.draw(st.integers(0, 2))] = data.draw(_policy).split("\n")
        edited = "\n".join(lines)
        assert outcome(parser, edited) == outcome(Parser(), edited)
