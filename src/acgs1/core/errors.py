"""Errors that carry meaning across layers: a stable code, a title, and what was wrong, where, and what would be right."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ErrorItem:
    """One finding among several: where it is and what is wrong there.

    `pointer` is a JSON pointer into the request body (RFC 6901; "" is all of it) or `file:line:column` for text inputs. `parameter` names
    what came beside the body: a segment of the path, a part of the query, a header, a field of a form. Lines and columns count from 1.
    """

    detail: str
    pointer: str | None = None
    line: int | None = None
    column: int | None = None
    parameter: str | None = None


class DomainError(Exception):
    """Base of every error that a rule of the domain raises. It knows nothing of HTTP.

    Subclasses set `code` (stable, snake_case, part of the API) and `title` (one phrase, the same for every instance).
    """

    code: ClassVar[str] = "domain_error"
    title: ClassVar[str] = "The request breaks a rule"

    @classmethod
    def codes(cls) -> tuple[str, ...]:
        """Every code that an error of this class may carry; `name_*` stands for all that begin so."""
        return (cls.code,)

    def __init__(self, detail: str, *, items: tuple[ErrorItem, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.items = items
