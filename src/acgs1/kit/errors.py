"""Errors of the platform itself: who may call, what a call may look like, and what happens when another service is gone."""

from acgs1.core.errors import DomainError, ErrorItem


class Unauthenticated(DomainError):
    code = "unauthenticated"
    title = "A valid access token is needed"


class TokenExpired(Unauthenticated):
    code = "token_expired"
    title = "The access token has expired"


class Forbidden(DomainError):
    code = "forbidden"
    title = "The caller's roles do not allow this"


class NotFound(DomainError):
    code = "not_found"
    title = "There is nothing at this address"


class InvalidRequest(DomainError):
    code = "invalid_request"
    title = "The request is not well formed"


class UnknownField(InvalidRequest):
    """Only that: a body that is wrong in other ways too is an InvalidRequest that lists them all."""

    code = "unknown_field"
    title = "The body has a field that this endpoint does not know"


class UnknownParameter(InvalidRequest):
    code = "unknown_parameter"
    title = "The query has a parameter that this endpoint does not know"


class MalformedJson(InvalidRequest):
    code = "malformed_json"
    title = "The body is not JSON"


class NestedTooDeeply(InvalidRequest):
    code = "nested_too_deeply"
    title = "The body nests deeper than this service takes"


class MethodNotAllowed(DomainError):
    """`allowed` are the methods that the path takes (RFC 9110, section 15.5.6)."""

    code = "method_not_allowed"
    title = "This path does not take this method"

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(detail)
        self.allowed = allowed


class InvalidCursor(InvalidRequest):
    code = "invalid_cursor"
    title = "The cursor is not one that this list gave out"


class BodyTooLarge(DomainError):
    code = "body_too_large"
    title = "The request body is larger than this service takes"


class IdempotencyMismatch(DomainError):
    code = "idempotency_mismatch"
    title = "This Idempotency-Key was used for a different request"


class IdempotencyInProgress(DomainError):
    code = "idempotency_in_progress"
    title = "The first request with this Idempotency-Key is still running"


class OutcomeUnknown(DomainError):
    """It took effect, at least in part; a kill or a fault cut it off before its answer. It is never carried out a second time."""

    code = "outcome_unknown"
    title = "The first request with this Idempotency-Key took effect and was cut off before its answer"


class SecretGivenOnce(DomainError):
    code = "secret_given_once"
    title = (
        "The first request with this Idempotency-Key took effect; its answer held a secret, which is not given again"
    )


class DependencyUnavailable(DomainError):
    """Another part did not answer in time, or its breaker is open. The caller may try again."""

    code = "dependency_unavailable"
    title = "A part that this request needs is not available"


class UpstreamRejected(DomainError):
    """Another service answered with a problem. Its code and status are kept, because they are about the caller's request."""

    code = "upstream_rejected"
    title = "Another service refused the request"

    def __init__(
        self, detail: str, *, upstream: str, upstream_code: str, status: int, items: tuple[ErrorItem, ...] = ()
    ) -> None:
        super().__init__(detail, items=items)
        self.upstream = upstream
        self.upstream_code = upstream_code
        self.status = status


STATUS: dict[type[DomainError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    InvalidRequest: 422,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
    IdempotencyMismatch: 409,
    IdempotencyInProgress: 409,
    OutcomeUnknown: 409,
    SecretGivenOnce: 409,
    DependencyUnavailable: 503,
    UpstreamRejected: 502,
}
"""HTTP status per error class; a subclass inherits its parent's."""
