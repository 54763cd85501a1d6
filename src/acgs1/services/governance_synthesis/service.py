"""Use cases: drafting a policy set from principles, repairing one from counterexamples."""

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution, Principle
from acgs1.contracts.events import new_event
from acgs1.contracts.governance_synthesis import Draft, DraftSummary, NewDraft, RepairRequest, Sentence
from acgs1.core.clock import Clock
from acgs1.core.errors import ErrorItem
from acgs1.core.hashing import text_hash
from acgs1.core.ids import new_id
from acgs1.services.governance_synthesis.errors import (
    DraftNotFound,
    InstructionNotRead,
    NothingToDraft,
    NothingToRepair,
    NotRepairable,
    ReportOfAnotherDraft,
)
from acgs1.services.governance_synthesis.ports import Cedar, Drafter, Drafts

_SERVICE = "governance_synthesis"


class SynthesisService:
    """All of governance_synthesis."""

    def __init__(self, store: Drafts, drafter: Drafter, cedar: Cedar, clock: Clock) -> None:
        self._store = store
        self._drafter = drafter
        self._cedar = cedar
        self._clock = clock

    async def draft(self, request: NewDraft, by: Identity, draft_id: str | None = None) -> Draft:
        """A policy set from the principles' sentences and the instructions, validated against the constitution's schema.

        With `draft_id`, a repeat returns the draft that is there. Raises SchemaRefused, InstructionNotRead and NothingToDraft with the
        reason for every sentence, PoliciesRefused.
        """
        if draft_id is not None and (kept := await self._kept(draft_id)) is not None:
            return kept
        constitution = request.constitution
        drafted = await self._drafter.draft(_instructed(constitution, request.instructions), request.strategy)
        _expect_read(constitution, drafted.sentences)
        if not drafted.policies:
            raise NothingToDraft(
                f"{len(drafted.sentences)} sentence(s), none of them a rule that gives a policy",
                items=tuple(
                    ErrorItem(f"`{s.text}`: {s.reason}", f"principle:{s.principle_id}") for s in drafted.sentences
                ),
            )
        policies = await self._cedar.checked(constitution.schema_text, drafted.policies)
        draft = Draft(
            id=draft_id or new_id("drf"),
            constitution_hash=constitution.hash,
            policies=policies,
            policies_hash=text_hash(policies),
            author=self._drafter.author,
            strategy=request.strategy,
            parent_id=None,
            sentences=drafted.sentences,
            actions_without_policy=drafted.actions_without_policy,
            created_by=by.id,
            created_at=self._clock.now(),
        )
        unread = sum(not s.policy_ids for s in draft.sentences)
        await self._keep(
            draft,
            constitution,
            "draft.created",
            author=draft.author,
            strategy=draft.strategy,
            sentences_without_policy=unread,
        )
        return draft

    async def repair(
        self, draft_id: str, request: RepairRequest, by: Identity, repaired_id: str | None = None
    ) -> Draft:
        """A new draft in which what the report refuted is repaired, with a note per change. The parent stays as it is.

        With `repaired_id`, a repeat returns the repaired draft that is there. Raises DraftNotFound, ReportOfAnotherDraft,
        NothingToRepair, NotRepairable with the reason for each refuted invariant.
        """
        if repaired_id is not None and (kept := await self._kept(repaired_id)) is not None:
            return kept
        report = request.report
        parent, constitution = await self._existing(draft_id)
        if (report.policies_hash, report.constitution_hash) != (parent.policies_hash, parent.constitution_hash):
            raise ReportOfAnotherDraft(
                f"the report is about policies `{report.policies_hash}`; this draft is `{parent.policies_hash}`"
            )
        if not any(o.verdict == "refuted" for o in report.obligations):
            raise NothingToRepair(
                "only what a report refutes can be repaired; `unknown` needs another proof, not another policy"
            )
        repaired = await self._cedar.repair(constitution, parent.policies, report.obligations)
        if not any(note.repaired for note in repaired.notes):
            items = tuple(ErrorItem(n.change, f"principle:{n.principle_id}") for n in repaired.notes)
            raise NotRepairable(f"{len(items)} refuted; the first: {items[0].detail}", items=items)
        policies = await self._cedar.checked(constitution.schema_text, repaired.policies)
        draft = parent.model_copy(
            update={
                "id": repaired_id or new_id("drf"),
                "policies": policies,
                "policies_hash": text_hash(policies),
                "author": "repair/1",
                "parent_id": parent.id,
                "notes": repaired.notes,
                "created_by": by.id,
                "created_at": self._clock.now(),
            }
        )
        await self._keep(
            draft, constitution, "draft.repaired", parent_id=parent.id, report_id=report.id,
            changes=sum(note.repaired for note in repaired.notes),
        )  # fmt: skip
        return draft

    async def get(self, draft_id: str) -> Draft:
        return (await self._existing(draft_id))[0]

    async def drafts(self, cursor: str | None, limit: int) -> Page[DraftSummary]:
        async with self._store.reading() as records:
            items, following = await records.page(cursor, limit)
        return Page[DraftSummary](items=items, next_cursor=following)

    async def _kept(self, draft_id: str) -> Draft | None:
        async with self._store.reading() as records:
            found = await records.get(draft_id)
        return found[0] if found else None

    async def _existing(self, draft_id: str) -> tuple[Draft, Constitution]:
        async with self._store.reading() as records:
            found = await records.get(draft_id)
        if found is None:
            raise DraftNotFound(f"`{draft_id}` is not a draft here")
        return found

    async def _keep(self, draft: Draft, constitution: Constitution, kind: str, **data: str | int) -> None:
        event = new_event(
            _SERVICE,
            kind,
            draft.created_at,
            actor=draft.created_by,
            subject=draft.id,
            constitution_hash=draft.constitution_hash,
            policies_hash=draft.policies_hash,
            **data,
        )
        async with self._store.transaction() as records:
            await records.add(draft, constitution)
            await records.record(event)


def _instructed(constitution: Constitution, instructions: tuple[str, ...]) -> Constitution:
    """The constitution with each instruction as one more principle, for the drafter alone: the union says what an action that is only
    restricted is allowed to be otherwise."""
    taken = {principle.id for principle in constitution.principles}
    asked: list[Principle] = []
    for number, text in enumerate(instructions, start=1):
        name = f"instruction-{number}"
        while name in taken:
            name = f"{name}-1"
        asked.append(Principle(id=name, title=name, text=text, category="instruction", priority=1000))
    return constitution.model_copy(update={"principles": (*constitution.principles, *asked)})


def _expect_read(constitution: Constitution, sentences: list[Sentence]) -> None:
    """A principle may hold guidance for people; an instruction that becomes no policy was not understood."""
    principles = {principle.id for principle in constitution.principles}
    unread = [s for s in sentences if s.principle_id not in principles and s.reason is not None and not s.policy_ids]
    if unread:
        items = tuple(ErrorItem(f"`{s.text}`: {s.reason}", s.principle_id) for s in unread)
        raise InstructionNotRead(f"{len(items)} sentence(s); the first: {items[0].detail}", items=items)
