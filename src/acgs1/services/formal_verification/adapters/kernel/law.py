"""Schemas and constitutions, checked once and kept: the vocabulary of proofs, and what is claimed in it."""

import json
from collections import OrderedDict
from dataclasses import dataclass

import acgs1_kernel as kernel

from acgs1.contracts.constitution import Always, Constitution, IndifferentTo, Invariant, MonotoneIn, Never, Scope
from acgs1.contracts.guards import (
    InvariantTextError,
    action_uid,
    check_condition,
    guard_id,
    guard_text,
    guards_of,
    scope_text,
)
from acgs1.core.errors import ErrorItem
from acgs1.core.hashing import text_hash
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    RESERVED_PREFIXES,
    Environment,
    Evaluator,
    Parser,
    PolicyTexts,
    Scopes,
    Slice,
    items_of,
)
from acgs1.services.formal_verification.adapters.kernel.composition import (
    CannotCompose,
    Composition,
    NoSuchAttribute,
)
from acgs1.services.formal_verification.adapters.kernel.schema_view import (
    SchemaError,
    SchemaView,
    entity_uid,
    split_uid,
)
from acgs1.services.formal_verification.errors import InvalidConstitution, InvalidPolicies

_KEPT_HASHES = 100_000
_KEPT_LAWS = 8
_KEPT_PERMITS = 20_000
_KEPT_FORBID_SETS = 4


class Vocabulary:
    """A schema, ready for proofs: validated, its environments enumerated, its types resolved."""

    def __init__(self, schema: str) -> None:
        """Raises acgs1_kernel.CedarParseError, SchemaError."""
        kernel.check_schema(schema)
        self.schema = schema
        self.hash = text_hash(schema)
        self.view = SchemaView(kernel.schema_to_json(schema))
        self.environments: list[Environment] = kernel.request_envs(schema)
        self.scopes = Scopes(self.view, self.environments)
        self.evaluator = Evaluator(schema)
        self._parser = Parser()
        self._valid: set[str] = set()
        self._laws: OrderedDict[str, Law] = OrderedDict()

    def policies(self, text: str, source: str = "policies") -> PolicyTexts:
        """The policies of `text`, each strictly valid under the schema. Raises InvalidPolicies with every finding."""
        try:
            texts = PolicyTexts(text, source, self.scopes, self._parser)
            self._validate(texts, source)
        except (kernel.CedarParseError, kernel.CedarValidationError) as error:
            items = items_of(error, f"/{source}")
            raise InvalidPolicies(first_of(items), items=items) from None
        for policy in texts.policies.values():
            if policy.id.startswith(RESERVED_PREFIXES):
                item = ErrorItem(
                    detail=f"the id `{policy.id}` is reserved; ids of your own do not begin with `guard:` or `acgs:`",
                    pointer=f"/{source}",
                    line=policy.line,
                    column=1,
                )
                raise InvalidPolicies(item.detail, items=(item,))
        return texts

    def _validate(self, texts: PolicyTexts, source: str) -> None:
        # Policies are validated one by one, so what was valid in another set is valid in this one.
        unknown = [policy for policy in texts.policies.values() if policy.hash not in self._valid]
        if not unknown:
            return
        try:
            kernel.validate_policies(self.schema, "\n".join(policy.text for policy in unknown), source)
        except kernel.CedarValidationError:
            # Once more over the whole text, for the positions in it.
            kernel.validate_policies(self.schema, texts.text, source)
            raise
        if len(self._valid) > _KEPT_HASHES:
            self._valid.clear()
        self._valid.update(policy.hash for policy in unknown)

    def law(self, constitution: Constitution) -> "Law":
        """The constitution, checked against the schema. Raises InvalidConstitution."""
        key = text_hash(constitution.model_dump_json())
        law = self._laws.get(key)
        if law is None:
            law = Law(constitution, self)
            self._laws[key] = law
            if len(self._laws) > _KEPT_LAWS:
                self._laws.popitem(last=False)
        self._laws.move_to_end(key)
        return law

    def in_scope(self, scope: Scope) -> list[Environment]:
        """The request environments that a scope speaks about. Raises InvariantTextError for names the schema lacks."""
        types = self.view.entity_types()
        for name in (scope.principal, scope.resource):
            if name is not None and name not in types:
                raise InvariantTextError(f"the schema has no entity type `{name}`")
        wanted = {entity_uid(*split_uid(action_uid(name))) for name in scope.actions}
        if unknown := wanted - set(self.view.action_names()):
            raise InvariantTextError(f"the schema has no action `{min(unknown)}`")
        return [
            (principal, action, resource)
            for principal, action, resource in self.environments
            if scope.principal in (None, principal)
            and scope.resource in (None, resource)
            and (not wanted or wanted & self.view.action_ancestors(action))
        ]


class Vocabularies:
    """The vocabularies of the last few schemas."""

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        self._known: OrderedDict[str, Vocabulary] = OrderedDict()

    def of(self, schema: str) -> Vocabulary:
        """Raises InvalidConstitution where `schema` is none."""
        known = self._known.get(schema)
        if known is None:
            try:
                known = Vocabulary(schema)
            except kernel.CedarParseError as error:
                items = items_of(error, "/constitution/schema_text")
                raise InvalidConstitution(f"the schema: {first_of(items)}", items=items) from None
            except SchemaError as error:
                raise InvalidConstitution(f"the schema: {error}") from None
            self._known[schema] = known
            if len(self._known) > self._keep:
                self._known.popitem(last=False)
        self._known.move_to_end(schema)
        return known


@dataclass(frozen=True, slots=True)
class Claim:
    """One invariant in one request environment. `composition` is its two-run form, or why there is none."""

    principle_id: str
    index: int
    invariant: Invariant
    environment: Environment
    composition: Composition | str | None = None


class Compliant:
    """Permits that keep one claim beside certain forbids, as far as has been proved here.

    A set keeps a ceiling exactly when each of its permits does, alone with the set's forbids; and further forbids only
    deny more. So what was proved of one set holds for the same permits in another set with at least those forbids
    (`exact`: with exactly those, for claims about two runs, which a further forbid may break).
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._proved: OrderedDict[frozenset[str], set[str]] = OrderedDict()

    def unproved(self, policies: Slice) -> Slice:
        """The slice without the permits that are known to comply in it; the forbids stay."""
        forbids = frozenset(p.hash for p in policies.policies if p.effect == "forbid")
        known: set[str] = set()
        for proved_beside, permits in self._proved.items():
            if proved_beside == forbids or (proved_beside < forbids and not self._exact):
                known |= permits
        return Slice([p for p in policies.policies if p.effect == "forbid" or p.hash not in known])

    def learn(self, policies: Slice) -> None:
        """That this slice was proved to keep the claim."""
        forbids = frozenset(p.hash for p in policies.policies if p.effect == "forbid")
        permits = self._proved.setdefault(forbids, set())
        if len(permits) > _KEPT_PERMITS:
            permits.clear()
        permits.update(p.hash for p in policies.policies if p.effect == "permit")
        self._proved.move_to_end(forbids)
        if len(self._proved) > _KEPT_FORBID_SETS:
            self._proved.popitem(last=False)


class Law:
    """A constitution whose invariants are known to mean something under its schema."""

    def __init__(self, constitution: Constitution, vocabulary: Vocabulary) -> None:
        """Raises InvalidConstitution."""
        self._vocabulary = vocabulary
        self.principles_without_invariants = [p.id for p in constitution.principles if not p.invariants]
        self.claims: list[Claim] = []
        faults: list[ErrorItem] = []
        first = ""
        for number, principle in enumerate(constitution.principles):
            for index, invariant in enumerate(principle.invariants):
                pointer = f"/constitution/principles/{number}/invariants/{index}"
                where = f"principle `{principle.id}`, invariant {index}"
                try:
                    self.claims += self._claims(principle.id, index, invariant)
                except InvariantTextError as error:
                    faults.append(ErrorItem(detail=str(error), pointer=pointer))
                    first = first or f"{where}: {error}"
                except (kernel.CedarParseError, kernel.CedarValidationError) as error:
                    # The condition begins on the line after the scope: line 4 of a guard, which has two annotations.
                    items = items_of(error, f"{pointer}/when", first_line=4)
                    faults += items
                    first = first or f"{where}: {first_of(items)}"
        if faults:
            raise InvalidConstitution(first, items=tuple(faults))
        self.compliant: dict[tuple[str, int, Environment], Compliant] = {}
        text, self.guard_principles = guards_of(constitution)
        self.guards = PolicyTexts(text, "guards", vocabulary.scopes)

    def _claims(self, principle_id: str, index: int, invariant: Invariant) -> list[Claim]:
        environments = self._vocabulary.in_scope(invariant)
        if not environments:
            raise InvariantTextError("the scope admits no request environment of the schema, so it would never matter")
        match invariant:
            case Never():
                text = guard_text(guard_id(principle_id, index), principle_id, invariant)
                kernel.validate_policies(self._vocabulary.schema, text, "invariant")
            case Always():
                check_condition(invariant.when)
                annotations = f'@id({json.dumps(principle_id)})\n@kind("always")'
                text = f"{annotations}\npermit ({scope_text(invariant)}) when {{\n{invariant.when}\n}};"
                kernel.validate_policies(self._vocabulary.schema, text, "invariant")
            case IndifferentTo() | MonotoneIn():
                return self._two_run_claims(principle_id, index, invariant, environments)
        return [Claim(principle_id, index, invariant, environment) for environment in environments]

    def _two_run_claims(
        self, principle_id: str, index: int, invariant: IndifferentTo | MonotoneIn, environments: list[Environment]
    ) -> list[Claim]:
        """Environments without the attributes are left out."""
        claims: list[Claim] = []
        paths = attributes_of(invariant)
        for environment in environments:
            composition: Composition | str
            try:
                composition = Composition(self._vocabulary.view, environment, paths)
            except NoSuchAttribute:
                continue
            except CannotCompose as error:
                composition = str(error)
            if isinstance(invariant, MonotoneIn) and isinstance(composition, Composition):
                kind = composition.targets[0].type
                if kind != "Long":
                    raise InvariantTextError(f"`{invariant.attribute}` is a {kind}; only a Long can be raised")
            claims.append(Claim(principle_id, index, invariant, environment, composition))
        if not claims:
            shown = ", ".join(f"`{path}`" for path in paths)
            raise InvariantTextError(f"no request environment in scope has the attributes {shown}")
        return claims


def attributes_of(invariant: IndifferentTo | MonotoneIn) -> tuple[str, ...]:
    return invariant.attributes if isinstance(invariant, IndifferentTo) else (invariant.attribute,)


def first_of(items: tuple[ErrorItem, ...]) -> str:
    """The first finding, for the one line that sums an error up."""
    if not items:
        return "not valid"
    first = items[0]
    return f"line {first.line}, column {first.column}: {first.detail}"
