"""What can be refused here."""

from acgs1.core.errors import DomainError


class RunNotFound(DomainError):
    code = "run_not_found"
    title = "There is no such run"


class TunableRefused(DomainError):
    """There is no single literal to tune, or its range makes no sense."""

    code = "tunable_refused"
    title = "A threshold cannot be tuned"


class PoliciesRefused(DomainError):
    code = "policies_refused"
    title = "The policies or the constitution's guards do not validate against the schema"


class OutcomeRefused(DomainError):
    """A labelled request is not one of the schema."""

    code = "outcome_refused"
    title = "A labelled outcome does not fit the schema"


class TooManyRuns(DomainError):
    code = "too_many_runs"
    title = "Too many runs are waiting"


class VerificationFailed(DomainError):
    """Formal verification took the candidate and came to no report."""

    code = "verification_failed"
    title = "A candidate's verification came to no result"
