"""The hot reads of constitutional_ai through its cache."""

from collections.abc import Awaitable, Callable
from typing import Final

from acgs1.contracts.constitutional_ai import ConstitutionDocument, PrincipleInForce
from acgs1.optimizer.web import OUTAGE_SECONDS, Reads
from acgs1.services.constitutional_ai.service import principle_of

IN_FORCE_SECONDS: Final = 2.0
"""Adoptions and amendments are announced; this bounds what an announcement that was lost can cost."""
DOCUMENT_SECONDS: Final = 5.0
"""The same where only the standing of a constitution can have changed: its text has its hash for an address."""
PRINCIPLE_SECONDS: Final = 3600.0

Load = Callable[[], Awaitable[ConstitutionDocument]]


class ConstitutionReads:
    """Also the Readers of the service."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        reads.declare("in_force", ConstitutionDocument, ttl=IN_FORCE_SECONDS, stale_if_error=OUTAGE_SECONDS)
        reads.declare("principle", PrincipleInForce, ttl=PRINCIPLE_SECONDS)
        reads.declare("document", ConstitutionDocument, ttl=DOCUMENT_SECONDS, stale_if_error=OUTAGE_SECONDS)

    async def in_force(self, load: Load) -> ConstitutionDocument:
        return await self._reads.get("in_force", {}, load)

    async def document(self, constitution_hash: str, load: Load) -> ConstitutionDocument:
        return await self._reads.get("document", {"hash": constitution_hash}, load)

    async def principle(self, principle_id: str, load: Load) -> PrincipleInForce:
        """Of the constitution that `in_force` has, under whose hash it never changes. Raises ConstitutionNotFound."""
        document = await self.in_force(load)

        async def find() -> PrincipleInForce:
            return principle_of(document, principle_id)

        return await self._reads.get("principle", {"id": principle_id}, find, version=document.meta.hash)

    async def standing_changed(self) -> None:
        await self._reads.forget("in_force", "document")
