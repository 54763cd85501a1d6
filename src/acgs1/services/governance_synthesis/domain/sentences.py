"""A principle's text as sentences."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A full stop ends a sentence when white space or the end follows it, and not inside a quoted text.
_SENTENCE = re.compile(r'(?:"[^"\n]*"|[^.?!]|[.?!](?=\S))+[.?!]?')


@dataclass(frozen=True, slots=True)
class RawSentence:
    """One sentence and where it starts in the text, in characters."""

    text: str
    start: int


def sentences_of(text: str) -> Iterator[RawSentence]:
    """Every sentence of `text`, in order; nothing but white space is left out."""
    for match in _SENTENCE.finditer(text):
        sentence = match.group()
        stripped = sentence.strip()
        if stripped:
            yield RawSentence(stripped, match.start() + len(sentence) - len(sentence.lstrip()))
