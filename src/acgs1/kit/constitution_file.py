"""A constitution as people write it: YAML (or JSON) beside its Cedar schema, with every fault named by file, line and column."""

from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError
from yaml.reader import ReaderError

from acgs1.contracts.constitution import Constitution
from acgs1.core.errors import DomainError, ErrorItem


class UnusableFile(DomainError):
    """A file that cannot be read as text; `items` name the place as `file:line:column` where there is one."""

    code = "unusable_file"
    title = "The file cannot be used"


class InvalidConstitutionFile(UnusableFile):
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
        except yaml.YAMLError as error:
            what, where = _of_yaml(error, text)
            raise self._invalid([ErrorItem(what, self._at(*where), *where)]) from None
        except ValueError as error:
            # A word that YAML takes for a date, such as `2026-02-30`, and that is none.
            where = _place_of_value_error(text)
            raise self._invalid([ErrorItem(str(error), self._at(*where), *where)]) from None
        if not isinstance(document, dict) or not isinstance(node, yaml.MappingNode):
            raise self._invalid(
                [ErrorItem("expected a mapping with `name`, `schema_file` and `principles`", self._at(1, 1), 1, 1)]
            )
        self._node: yaml.Node = node
        self._lines = text.split("\n")
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
        return self._position(_parts(pointer))

    def place_in_text(self, pointer: str, line: int, column: int) -> tuple[int, int]:
        """Where line `line` and column `column` (from 1) of the text that the pointer leads to stand in the file; of a folded text,
        or one with escapes, nearby."""
        node = self._found(_parts(pointer))[1]
        if not isinstance(node, yaml.ScalarNode):
            return self.place(pointer)
        start = node.start_mark
        if node.style in {"|", ">"}:
            # The text begins on the line below the mark, indented as its first words are.
            words = next((each for each in self._lines[start.line + 1 :] if each.strip()), "")
            return start.line + 1 + line, len(words) - len(words.lstrip()) + column
        quote = 1 if node.style else 0
        return start.line + line, (start.column + quote if line == 1 else 0) + column

    def _item(self, location: tuple[int | str, ...], message: str) -> ErrorItem:
        line, column = self._position([str(part) for part in location])
        name = "/".join(str(part) for part in location)
        return ErrorItem(f"`{name}`: {message}" if name else message, self._at(line, column), line, column)

    def _position(self, parts: list[str]) -> tuple[int, int]:
        mark, _ = self._found(parts)
        return mark.line + 1, mark.column + 1

    def _found(self, parts: list[str]) -> tuple[Any, Any]:
        """The mark of the nearest part, its name where it has one, and its node."""
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
        return mark, node

    def _at(self, line: int, column: int) -> str:
        return f"{self.path}:{line}:{column}"

    def _invalid(self, items: list[ErrorItem]) -> InvalidConstitutionFile:
        listing = "\n".join(f"{item.pointer}: {item.detail}" for item in items)
        return InvalidConstitutionFile(listing, items=tuple(items))


def _parts(pointer: str) -> list[str]:
    return [p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/") if p]


def load_constitution(path: Path) -> Constitution:
    """The constitution in the file `path`; raises InvalidConstitutionFile."""
    return ConstitutionFile(path).constitution


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; raises UnusableFile."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnusableFile(f"{path}: {error.strerror}") from None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        where = _line_and_column(before, len(before))
        pointer = f"{path}:{where[0]}:{where[1]}"
        what = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise UnusableFile(f"{pointer}: {what}", items=(ErrorItem(what, pointer, *where),)) from None


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except UnusableFile as error:
        raise InvalidConstitutionFile(error.detail, items=error.items) from None


def _of_yaml(error: yaml.YAMLError, text: str) -> tuple[str, tuple[int, int]]:
    """What is wrong with the YAML, and in which line and column."""
    if isinstance(error, ReaderError):
        return f"the character U+{ord(text[error.position]):04X} is not allowed", _line_and_column(text, error.position)
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return problem or str(error), (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _place_of_value_error(text: str) -> tuple[int, int]:
    loader = yaml.SafeLoader(text)
    try:
        waiting: list[Any] = [loader.get_single_node()]
        while waiting:
            node = waiting.pop()
            if isinstance(node, yaml.ScalarNode):
                try:
                    loader.construct_object(node)
                except ValueError:
                    return node.start_mark.line + 1, node.start_mark.column + 1
            elif isinstance(node, yaml.MappingNode):
                waiting += [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                waiting += node.value
        return 1, 1
    finally:
        loader.dispose()


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    """Of the character at `position`, from 1."""
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
