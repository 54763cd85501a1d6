"""What can be refused here."""

from acgs1.core.errors import DomainError


class InvalidCredentials(DomainError):
    """Deliberately the same for an unknown name, a wrong secret and a switched-off account."""

    code = "invalid_credentials"
    title = "The credentials are not valid"


class TooManyAttempts(DomainError):
    code = "too_many_attempts"
    title = "Too many failed attempts for this account"


class UnsupportedGrant(DomainError):
    code = "unsupported_grant_type"
    title = "This grant type is not offered"


class NameTaken(DomainError):
    code = "name_taken"
    title = "The name is already in use"


class AccountNotFound(DomainError):
    code = "account_not_found"
    title = "There is no such account"


class LastAdministrator(DomainError):
    code = "last_administrator"
    title = "The last active administrator cannot be switched off"
