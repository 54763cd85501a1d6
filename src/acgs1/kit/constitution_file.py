"""A constitution as people write it: YAML (or JSON) beside its Cedar schema, with every fault named by file, line and column."""

from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from acgs1.contracts.constitution import Constitution
from acgs1.core.errors import DomainError, ErrorItem


class InvalidConstitutionFile(DomainError):
    """`items` name each fault as `file:line:column`."""

    code = "invalid_constitution_file"
    title = "The constitution file cannot be used"


class ConstitutionFile:
    """A constitution with the places in its file where its parts stand.

    The file has the fields of `Constitution`, with `schema_file` (a path relative to it) or `schema_text` for the schema.
    Raises InvalidConstitutionFile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = _read(path)
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            document = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise self._invalid([ErrorItem(str(error.problem), self._at(*where), *where)]) from None
        if not isinstance(document, dict) or not isinstance(node, yaml.MappingNode):
            raise self._invalid(
                [ErrorItem("expected a mapping with `name`, `schema_file` and `principles`", self._at(1, 1), 1, 1)]
            )
        self._node: yaml.Node = node
        self.schema_path = path
        fields = dict(cast("dict[str, Any]", document))
        if (schema := fields.pop("schema_file", None)) is not None:
            self.schema_path = path.parent / str(schema)
            fields["schema_text"] = _read(self.schema_path)
        try:
            self.constitution = Constitution.model_validate(fields)
        except ValidationError as error:
            raise self._invalid([self._item(e["loc"], str(e["msg"])) for e in error.errors()]) from None

    def place(self, pointer: str) -> tuple[int, int]:
        """Line and column (from 1) of the nearest part that the JSON pointer leads to."""
        return self._position([p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/") if p])

    def _item(self, location: tuple[int | str, ...], message: str) -> ErrorItem:
        line, column = self._position([str(part) for part in location])
        name = "/".join(str(part) for part in location)
        return ErrorItem(f"`{name}`: {message}" if name else message, self._at(line, column), line, column)

    def _position(self, parts: list[str]) -> tuple[int, int]:
        node: Any = self._node
        mark = node.start_mark
        for part in parts:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == part), None)
                if found is None:
                    continue  # a part that the model adds, such as the kind of an invariant
                mark, node = found[0].start_mark, found[1]
            elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
                node = node.value[int(part)]
                mark = node.start_mark
        return mark.line + 1, mark.column + 1

    def _at(self, line: int, column: int) -> str:
        return f"{self.path}:{line}:{column}"

    def _invalid(self, items: list[ErrorItem]) -> InvalidConstitutionFile:
        listing = "\n".join(f"{item.pointer}: {item.detail}" for item in items)
        return InvalidConstitutionFile(listing, items=tuple(items))


def load_constitution(path: Path) -> Constitution:
    """The constitution in the file `path`; raises InvalidConstitutionFile."""
    return ConstitutionFile(path).constitution


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidConstitutionFile(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidConstitutionFile(f"{path}: byte {error.start} is not UTF-8") from None
