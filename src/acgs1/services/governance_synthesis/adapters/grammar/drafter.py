"""The offline drafter: controlled English in the words of the constitution's own schema."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from typing import TYPE_CHECKING

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.governance_synthesis import Strategy
from acgs1.core.errors import ErrorItem
from acgs1.services.governance_synthesis.domain.drafting import PolicySetDraft, draft
from acgs1.services.governance_synthesis.domain.vocabulary import Vocabulary, VocabularyError, vocabulary_of
from acgs1.services.governance_synthesis.errors import SchemaRefused

if TYPE_CHECKING:
    from acgs1.services.governance_synthesis.adapters.grammar.reader import Reader


class GrammarDrafter:
    """Reads what the grammar covers and says of every other sentence why it could not. The same input gives the same draft."""

    author = "controlled-english/1"

    async def draft(self, constitution: Constitution, strategy: Strategy) -> PolicySetDraft:
        return await asyncio.to_thread(_draft, constitution, strategy)


def _draft(constitution: Constitution, strategy: Strategy) -> PolicySetDraft:
    vocabulary, reader = _language(constitution.schema_text)
    return draft(constitution, vocabulary, reader.read, strategy)


@lru_cache(maxsize=16)
def _language(schema: str) -> tuple[Vocabulary, Reader]:
    """The words of a schema and their reader. Kept: making the parser costs ten times what reading a constitution does."""
    # Imported here: the service starts without the parser and the kernel in memory.
    import acgs1_kernel as kernel

    from acgs1.services.governance_synthesis.adapters.grammar.reader import Reader
    from acgs1.services.governance_synthesis.adapters.kernel import items_of

    try:
        vocabulary = vocabulary_of(json.loads(kernel.schema_to_json(schema)))
    except kernel.CedarParseError as error:
        items = items_of(error.diagnostics, "/constitution/schema_text")
        raise SchemaRefused(f"the schema is not Cedar: {items[0].detail}", items=items) from None
    except VocabularyError as error:
        raise SchemaRefused(str(error), items=(ErrorItem(str(error), "/constitution/schema_text"),)) from None
    return vocabulary, Reader(vocabulary)
