"""What is wrong with a file that somebody wrote, by file, line and column, whether it was found here or by a service."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from acgs1.contracts.common import ProblemItem
from acgs1.core.errors import ErrorItem
from acgs1.kit.constitution_file import ConstitutionFile, UnusableFile

Files = Mapping[str, Path]
"""Where the parts of an input were read: file by the name that the input has for its text (`policies`, `schema_text`, ...).
`constitution` is a constitution's file; under the empty name it is one that is the whole input."""


def told(what: str, detail: str, items: Iterable[ErrorItem | ProblemItem], files: Files) -> str:
    """`what` was refused, and every fault once with its place, or `detail` where there is no list of faults."""
    faults = [f"  {_where(item, files)}: {item.detail}" for item in items]
    return "\n".join([f"{what}:", *faults]) if faults else f"{what}: {detail}"


def unusable(error: UnusableFile) -> str:
    """What is wrong with a file that was read here; its faults have their places already."""
    return "\n  ".join([f"{error.title}:", *error.detail.splitlines()])


def _where(item: ErrorItem | ProblemItem, files: Files) -> str:
    """`file:line:column` in one of the files; otherwise what is known of the place."""
    pointer = item.pointer or ""
    part, _, rest = pointer.removeprefix("/").partition("/")
    line, column = item.line or 1, item.column or 1
    if not pointer.startswith("/"):
        return pointer or "input"
    if pointer.endswith("/schema_text") and "schema_text" in files:
        part = "schema_text"
    if part in files and part != "constitution":
        return f"{files[part]}:{line}:{column}"
    file = files.get("constitution") if part == "constitution" else files.get("")
    if file is None:
        return f"{pointer}:{line}:{column}" if item.line is not None else pointer
    law = ConstitutionFile(file)
    inside = rest if part == "constitution" else pointer
    if inside.strip("/") == "schema_text" and law.schema_path != file:
        return f"{law.schema_path}:{line}:{column}"
    line, column = law.place(inside) if item.line is None else law.place_in_text(inside, line, column)
    return f"{file}:{line}:{column}"
