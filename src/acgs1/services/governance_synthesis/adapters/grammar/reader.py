"""Reads rule sentences: the grammar file, with the phrases of one schema as its words."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from acgs1.services.governance_synthesis.domain.rules import CannotSay, Condition, Operator, Rule, RuleKind
from acgs1.services.governance_synthesis.domain.vocabulary import Vocabulary, normal

_GRAMMAR = Path(__file__).with_name("controlled_english.lark")
_AUXILIARY = frozenset(
    {
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "had",
        "may",
        "can",
        "could",
        "must",
        "should",
        "will",
        "would",
        "does",
        "do",
        "did",
    }
)
_ARTICLE = frozenset({"the", "a", "an", "this", "its"})
_NEVER = r"(?!x)x"

_OPERATORS: dict[str, Operator] = {
    "fact": "true",
    "negated_fact": "false",
    "equal": "==",
    "different": "!=",
    "at_least": ">=",
    "at_most": "<=",
    "more": ">",
    "less": "<",
}
_WORDS_OF_TERMINALS = {
    "PRINCIPAL": "who acts",
    "ACTION": "an action",
    "FACT": "a condition",
    "NEGATED_FACT": "a condition",
    "NOUN": "a condition",
    "NUMBER": "a whole number",
    "WORD": "a value",
    "QUOTED": "a value",
    "PERSONS": "`a person's`",
    "DOT": "`.`",
    "COMMA": "`,`",
    "$END": "the end",
}


class Reader:
    """Reads sentences in the words of one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        facts = sorted({a.phrase for a in vocabulary.all_attributes() if a.type == "Bool"})
        self._nouns = sorted({a.phrase for a in vocabulary.all_attributes() if a.type != "Bool"})
        self._negated = {negation: fact for fact in facts for negation in negations(fact)}
        self._actions = sorted(a.phrase for a in vocabulary.actions if a.phrase is not None)
        self._principals = sorted(vocabulary.principal_phrases)
        self._facts = facts
        # A clause ("the fare is refundable") is longer than the noun it may begin with ("the fare"): it is tried first.
        terminals = {
            "PRINCIPAL": self._principals,
            "ACTION": self._actions,
            "NEGATED_FACT.3": self._negated,
            "FACT.2": facts,
            "NOUN.1": self._nouns,
        }
        words = "\n".join(f"{name}: /{_alternatives(phrases)}/i" for name, phrases in terminals.items())
        grammar = _GRAMMAR.read_text(encoding="utf-8")
        self._parser = Lark(f"{grammar}\n{words}\n", parser="lalr", lexer="contextual", maybe_placeholders=True)

    def read(self, sentence: str) -> Rule:
        """The rule that `sentence` is. Raises CannotSay with the offset at which it stops being one."""
        try:
            tree = self._parser.parse(sentence)
        except UnexpectedInput as error:
            raise self._explain(sentence, error) from None
        return self._rule(tree)

    def _rule(self, tree: Tree[Token]) -> Rule:
        (rule,) = (child for child in tree.children if isinstance(child, Tree))
        kinds: dict[str, RuleKind] = {"never": "never", "may": "may", "approval": "approval"}
        principal = next(t for t in rule.children if isinstance(t, Token) and t.type == "PRINCIPAL")
        action = next(t for t in rule.children if isinstance(t, Token) and t.type == "ACTION")
        clauses = {str(c.data): c for c in rule.children if isinstance(c, Tree)}
        return Rule(
            kinds[str(rule.data)],
            normal(principal),
            principal.start_pos or 0,
            normal(action),
            action.start_pos or 0,
            self._conditions(clauses.get("when")),
            self._conditions(clauses.get("unless")),
        )

    def _conditions(self, clause: Tree[Token] | None) -> tuple[Condition, ...]:
        if clause is None:
            return ()
        return tuple(self._condition(child) for child in clause.children if isinstance(child, Tree))

    def _condition(self, tree: Tree[Token]) -> Condition:
        tokens = [child for child in tree.children if isinstance(child, Token)]
        phrase = normal(tokens[0])
        value: int | str | None = None
        if len(tokens) == 2:
            token = tokens[1]
            value = int(token) if token.type == "NUMBER" else str(token).strip('"')
        return Condition(
            self._negated.get(phrase, phrase) if tree.data == "negated_fact" else phrase,
            _OPERATORS[str(tree.data)],
            value,
            tokens[0].start_pos or 0,
        )

    def _explain(self, sentence: str, error: UnexpectedInput) -> CannotSay:
        position = error.pos_in_stream or 0
        expected: set[str] = set()
        if isinstance(error, UnexpectedCharacters):
            expected = set(error.allowed or ())
        elif isinstance(error, UnexpectedToken):
            expected = set(error.accepts or error.expected)
            if error.token.type == "$END":
                position = len(sentence)
        elif isinstance(error, UnexpectedEOF):
            position = len(sentence)
        rest = sentence[position:].strip()
        if position == 0:
            who = " or ".join(f"`{p[0].upper()}{p[1:]} ...`" for p in self._principals)
            return CannotSay(f"not a rule: a rule begins with {who} or `To ...`", 0)
        wanted = sorted({_WORDS_OF_TERMINALS.get(t, f"`{t.lower()}`") for t in expected})
        found = f"`{_shorten(rest)}`" if rest else "the end"
        message = f"expected {' or '.join(wanted) or 'the end'}, found {found}"
        if rest and (close := self._close_phrases(rest, expected)):
            message += f"; the schema knows {', '.join(f'`{c}`' for c in close)}"
        return CannotSay(message, position)

    def _close_phrases(self, rest: str, expected: set[str]) -> list[str]:
        phrases = [
            *(self._principals if "PRINCIPAL" in expected else ()),
            *(self._actions if "ACTION" in expected else ()),
            *([*self._facts, *self._nouns] if "NOUN" in expected or "FACT" in expected else ()),
        ]
        begun = {phrase: normal(rest)[: len(phrase)] for phrase in phrases}
        ranked = sorted(phrases, key=lambda p: -difflib.SequenceMatcher(None, p, begun[p]).ratio())
        return ranked[:3]


def negations(fact: str) -> list[str]:
    """How English denies a clause: `not` after an auxiliary, else `does not`; and in any case `it is not true that ...`."""
    words = fact.split()
    found = [f"it is not true that {fact}"]
    auxiliary = next((i for i, word in enumerate(words) if word in _AUXILIARY), None)
    if auxiliary is not None:
        return [*found, " ".join([*words[: auxiliary + 1], "not", *words[auxiliary + 1 :]])]
    for i, word in enumerate(words):
        if i == 0 or not word.endswith("s") or words[i - 1] in _ARTICLE:
            continue
        found += [" ".join([*words[:i], "does not", base, *words[i + 1 :]]) for base in _bases(word)]
    return found


def _bases(verb: str) -> list[str]:
    """What the third person `verb` may be derived from: `carries` -> `carry`, `passes` -> `pass`, `belongs` -> `belong`."""
    bases = [verb[:-1]]
    if verb.endswith("ies"):
        bases.append(f"{verb[:-3]}y")
    elif verb.endswith("es"):
        bases.append(verb[:-2])
    return bases


def _alternatives(phrases: Iterable[str]) -> str:
    """A regular expression for any of `phrases`, the longest that fits, with any white space between words."""
    ordered = sorted(phrases, key=len, reverse=True)
    if not ordered:
        return _NEVER
    patterns = (
        r"\s+".join(re.escape(word).replace("'", "['\N{RIGHT SINGLE QUOTATION MARK}]") for word in phrase.split())
        for phrase in ordered
    )
    return rf"(?:{'|'.join(patterns)})(?![\w-])".replace("/", r"\/")


def _shorten(text: str) -> str:
    words = text.split()
    return " ".join(words[:6]) + (" ..." if len(words) > 6 else "")
