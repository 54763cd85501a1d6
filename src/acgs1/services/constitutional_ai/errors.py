"""What can be refused here."""

from acgs1.core.errors import DomainError


class InvalidConstitution(DomainError):
    """The schema or an invariant cannot be used; `items` say where and why."""

    code = "invalid_constitution"
    title = "The constitution cannot be used as written"


class ConstitutionNotFound(DomainError):
    code = "constitution_not_found"
    title = "There is no such constitution"


class NoConstitutionInForce(DomainError):
    code = "no_constitution_in_force"
    title = "No constitution is in force"


class AmendmentNeedsVote(DomainError):
    code = "amendment_needs_vote"
    title = "A constitution is in force; only a vote can replace it"


class AdoptionInProgress(DomainError):
    code = "adoption_in_progress"
    title = "Another constitution is being adopted"


class AdoptionRefused(DomainError):
    """The ledger, or policy governance before it, said no. `code` is theirs."""

    code = "adoption_refused"
    title = "The ledger refused the constitution"

    def __init__(self, detail: str, code: str) -> None:
        super().__init__(detail)
        self.code = code  # pyright: ignore[reportAttributeAccessIssue]
