"""Schema and invariants checked by the Cedar validator."""

from acgs1.contracts.constitution import Always, Constitution, Never
from acgs1.contracts.guards import InvariantTextError, check_condition, guard_text, guards_of, scope_text
from acgs1.core.errors import ErrorItem
from acgs1.services.constitutional_ai.errors import InvalidConstitution

# `guard_text` and `_floor_text` put the condition on the fourth line.
_LINES_BEFORE_CONDITION = 3


class KernelChecker:
    """Compiles each invariant into a policy and validates it strictly against the schema."""

    def guards(self, constitution: Constitution) -> str:
        # Imported here: the kernel is heavy and this is the only use of it in the service.
        import acgs1_kernel as kernel

        try:
            kernel.check_schema(constitution.schema_text, "schema")
        except kernel.KernelError as error:
            raise InvalidConstitution("the schema is not valid Cedar", items=_items(error, "/schema_text", 0)) from None
        items: list[ErrorItem] = []
        for number, principle in enumerate(constitution.principles):
            for index, invariant in enumerate(principle.invariants):
                pointer = f"/principles/{number}/invariants/{index}"
                if not isinstance(invariant, (Never, Always)):
                    continue  # attribute paths are resolved against the schema by formal verification
                try:
                    text = _policy_text(f"invariant:{principle.id}:{index}", principle.id, invariant)
                    kernel.validate_policies(constitution.schema_text, text)
                except InvariantTextError as error:
                    items.append(ErrorItem(f"principle `{principle.id}`: {error}", f"{pointer}/when"))
                except kernel.KernelError as error:
                    items.extend(
                        _items(error, f"{pointer}/when", _LINES_BEFORE_CONDITION, f"principle `{principle.id}`: ")
                    )
        if items:
            raise InvalidConstitution(f"{len(items)} fault(s); the first: {items[0].detail}", items=tuple(items))
        return guards_of(constitution)[0]


def _policy_text(name: str, principle_id: str, invariant: Never | Always) -> str:
    if isinstance(invariant, Never):
        return guard_text(name, principle_id, invariant)
    check_condition(invariant.when)
    return f'@id("{name}")\n@principle("{principle_id}")\npermit ({scope_text(invariant)}) when {{\n{invariant.when}\n}};\n'


def _items(error: Exception, pointer: str, lines_before: int, prefix: str = "") -> tuple[ErrorItem, ...]:
    diagnostics = getattr(error, "diagnostics", None)
    if not diagnostics:
        return (ErrorItem(f"{prefix}{error}", pointer),)
    return tuple(
        ErrorItem(
            f"{prefix}{d.message}" + (f" ({d.help})" if d.help else ""),
            pointer,
            max(1, d.line - lines_before) if d.line else None,
            d.column,
        )
        for d in diagnostics
    )
