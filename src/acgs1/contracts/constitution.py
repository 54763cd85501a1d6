"""The constitution: principles with their formal meaning. Its identity is the SHA-256 of its canonical form."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from acgs1.contracts.common import Message
from acgs1.core.hashing import content_hash

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
"""A short stable name that people use to refer to a principle, e.g. `no-flown-cancellation`."""

AttributePath = Annotated[str, Field(pattern=r"^(principal|resource|context)(\.[A-Za-z_][A-Za-z0-9_]*)+$")]
"""An attribute of a request, e.g. `principal.nationality` or `context.amount`."""


class Scope(Message):
    """Which requests an invariant speaks about. Absent means any.

    `actions` holds action names as in the schema (`cancel_reservation`, or `NS::Action::"x"` in a namespace);
    `principal` and `resource` hold entity type names.
    """

    principal: str | None = None
    actions: tuple[str, ...] = ()
    resource: str | None = None


class Never(Scope):
    """Requests in scope for which the Cedar condition `when` holds must be denied, whatever the policies say."""

    kind: Literal["never"] = "never"
    when: str


class Always(Scope):
    """Requests in scope for which the Cedar condition `when` holds must be allowed."""

    kind: Literal["always"] = "always"
    when: str


class IndifferentTo(Scope):
    """Two requests in scope that differ only in `attributes` must get the same decision (non-interference)."""

    kind: Literal["indifferent_to"] = "indifferent_to"
    attributes: Annotated[tuple[AttributePath, ...], Field(min_length=1)]


class MonotoneIn(Scope):
    """Raising `attribute` (a Long), all else equal, never turns allow into deny."""

    kind: Literal["monotone_in"] = "monotone_in"
    attribute: AttributePath


Invariant = Annotated[Never | Always | IndifferentTo | MonotoneIn, Field(discriminator="kind")]


class Principle(Message):
    """One rule of the constitution, in words and, through its invariants, in logic.

    `priority` orders principles when people weigh them: 1 is the highest. A principle without invariants is guidance for people;
    the reports say so and it is never counted as proved.
    """

    id: Slug
    title: Annotated[str, Field(min_length=1, max_length=64)]
    text: Annotated[str, Field(min_length=1, max_length=4000)]
    rationale: Annotated[str, Field(max_length=4000)] = ""
    category: Annotated[str, Field(min_length=1, max_length=64)]
    priority: Annotated[int, Field(ge=1, le=1000)]
    invariants: tuple[Invariant, ...] = ()


class Constitution(Message):
    """An ordered set of principles under which policies must stand, with the Cedar schema that gives its invariants their vocabulary."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    preamble: Annotated[str, Field(max_length=4000)] = ""
    schema_text: Annotated[str, Field(min_length=1, max_length=500_000)]
    principles: Annotated[tuple[Principle, ...], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _principles_have_distinct_ids(self) -> "Constitution":
        seen: set[str] = set()
        for principle in self.principles:
            if principle.id in seen:
                raise ValueError(f"principle id `{principle.id}` is used twice; each principle needs its own")
            seen.add(principle.id)
        return self

    @property
    def hash(self) -> str:
        """The constitution's identity: SHA-256 over its RFC 8785 form."""
        return content_hash(self.model_dump(mode="json"))
