"""Constitutions and the one way in which they come into force."""

from dataclasses import dataclass
from datetime import datetime

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionStatus


@dataclass(frozen=True, slots=True)
class StoredConstitution:
    """A constitution with its standing. `draft` -> `adopting` -> `in_force`; a refused adoption is a `draft` again."""

    hash: str
    constitution: Constitution
    status: ConstitutionStatus
    version: int | None
    created_by: str
    created_at: datetime
    in_force_at: datetime | None
    ledger_signature: str | None
    refusal: str | None
