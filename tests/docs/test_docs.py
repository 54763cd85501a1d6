"""The documents say what is: commands, links, settings, errors, endpoints and figures are held against the code."""

import ast
import dataclasses
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from acgs1.cli.main import cli
from acgs1.ledger.node.settings import NodeSettings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
TOP = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
DOCUMENTS = [*TOP, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "src").rglob("README.md"))]
SETTINGS_FILES = sorted(
    file for file in (ROOT / "src").rglob("*.py") if "(BaseSettings)" in file.read_text(encoding="utf-8")
)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> Any:
    return _generator()


def test_the_generated_references_are_those_of_the_code(generate: Any) -> None:
    for name, content in generate.generated().items():
        text = (REFERENCE / name).read_text()
        assert text == generate.spliced(text, content), f"docs/reference/{name} is stale: run docs/generate.py"


def test_every_error_of_the_code_stands_in_the_reference(generate: Any) -> None:
    text = (REFERENCE / "errors.md").read_text()
    missing = [kind.code for kind in generate.error_classes() if f"`{kind.code}`" not in text]
    # The one class whose code is made from the program's error; each of those is listed.
    assert [code for code in missing if code != "ledger_transaction_failed"] == []


# --- settings ---


def _variables() -> dict[str, object]:
    """Every variable that a settings class reads, with its default (`...` where it is made at run time)."""
    found: dict[str, object] = {}
    for kind in _settings_classes():
        for name, field in kind.model_fields.items():
            prefix = str(kind.model_config.get("env_prefix"))
            variable = "ALLOWED_ORIGINS" if name == "allowed_origins" else f"{prefix}{name}".upper()
            if isinstance(field.validation_alias, str):
                variable = field.validation_alias
            found[variable] = ... if field.default is PydanticUndefined else field.default
    return found


def _settings_classes() -> list[type[BaseSettings]]:
    modules = [".".join(file.relative_to(ROOT / "src").with_suffix("").parts) for file in SETTINGS_FILES]
    return [
        kind
        for module in map(importlib.import_module, modules)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, BaseSettings) and kind.__module__ == module.__name__
    ]


def test_the_settings_classes_are_found() -> None:
    assert len(_settings_classes()) >= 5


def _documented(heading: str | None = None) -> dict[str, str]:
    """variable -> default, from the tables of settings.md (of one section)."""
    text = (REFERENCE / "settings.md").read_text()
    if heading is not None:
        text = text.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"^\| `([A-Z_0-9]+)` \| ([^|]*?) \|", text, re.MULTILINE))


def _as_documented(value: object) -> str | None:
    """How a default is written in the table; None where words stand for it."""
    if value is ... or value is None:
        return None
    if isinstance(value, tuple):
        return ",".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return str(value)


def test_every_setting_is_documented_with_its_default() -> None:
    documented = _documented()
    for variable, default in _variables().items():
        assert variable in documented, f"`{variable}` is not in docs/reference/settings.md"
        expected = _as_documented(default)
        if expected is not None:
            assert documented[variable].strip("`") == expected, variable


def test_every_documented_setting_is_read_somewhere() -> None:
    """A name in the tables must be a field of a settings class or a literal that the code reads."""
    literals = _literals()
    unknown = [name for name in _documented() if name not in _variables() and name not in literals]
    assert unknown == []


def test_every_variable_that_the_code_names_is_documented() -> None:
    assert sorted(_literals() - set(_documented())) == []


def test_the_ledger_settings_have_the_documented_defaults() -> None:
    node = NodeSettings.from_env({"ACGS_HOME": "/x"})
    table = _documented("ledger, when it runs alone")
    assert table["ACGS_LEDGER_PORT"] == f"`{node.port}`"
    assert table["ACGS_LEDGER_HOST"] == f"`{node.host}`"
    assert table["ACGS_LEDGER_AIRDROP_LIMIT"] == f"`{node.airdrop_limit}`"
    assert node.pubsub_port == node.port + 1
    assert node.data_dir == Path("/x/ledger")
    assert dataclasses.is_dataclass(node)


def _literals() -> set[str]:
    """`ACGS_...` names that stand as whole string literals in the code, such as the environment variable of an option."""
    return {
        node.value
        for file in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"ACGS_[A-Z_]+[A-Z]", node.value)
    }


# --- commands ---


def _mentioned(text: str) -> set[tuple[str, ...]]:
    """Calls of `acgs1` in code spans and shell blocks: the words up to the first option, file or variable."""
    found: set[tuple[str, ...]] = set()
    blocks = re.findall(r"```(?:bash|sh|console)[^\n]*\n(.*?)```", text, re.DOTALL)
    for code in [*re.findall(r"`([^`\n]+)`", text), *blocks]:
        for call in re.findall(r"(?:^|[\s/(])acgs1((?: [^\s`|;&>)]+)*)", code):
            words: list[str] = []
            for word in call.split():
                if not re.fullmatch(r"[a-z][a-z-]*", word):
                    break
                words.append(word)
            found.add(tuple(words))
    return found


def _resolves(words: tuple[str, ...]) -> bool:
    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group):
            return True  # what follows is an argument
        child = command.get_command(click.Context(command), word)
        if child is None:
            return False
        command = child
    return True


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_command_in_a_document_exists(document: Path) -> None:
    wrong = [" ".join(("acgs1", *words)) for words in _mentioned(document.read_text()) if not _resolves(words)]
    assert wrong == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    (words,) = _mentioned("Run `acgs1 verify evidnce FILE`.")
    assert words == ("verify", "evidnce")
    assert not _resolves(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_option_in_a_shell_block_is_one_of_its_command(document: Path) -> None:
    for block in re.findall(r"```bash[^\n]*\n(.*?)```", document.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.search(r"(?:^|\s|/)acgs1 ([^|;&>]*)", line)
            if match is None:
                continue
            command: click.Command = cli
            for word in match[1].split():
                if isinstance(command, click.Group) and (child := command.get_command(click.Context(command), word)):
                    command = child
            options = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {
                "--help",
                "-h",
                "--version",
            }
            used = re.findall(r"(?<=\s)(--[a-z-]+)", f" {match[1]}")
            assert set(used) <= options, f"{_name(document)}: {line.strip()}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_make_target_in_a_document_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(_code(document))
    assert set(re.findall(r"(?:^|\s)make ([a-z-]+)", code, re.MULTILINE)) <= targets


def _code(document: Path) -> list[str]:
    text = document.read_text()
    return [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```(?:bash|sh|console)[^\n]*\n(.*?)```", text, re.DOTALL)]


# --- links, files and figures ---


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_relative_link_resolves(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{_name(document)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, f"{_name(document)}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_path_of_the_repository_in_a_document_exists(document: Path) -> None:
    tops = "src|tests|docs|benchmarks|native|blockchain|examples|services|scripts|deploy"
    base = [ROOT, document.parent]
    for path in re.findall(rf"`((?:{tops})/[\w./*{{}},-]+)`", document.read_text()):
        if any(mark in path for mark in "*{"):
            continue
        assert any((folder / path).exists() for folder in base), f"{_name(document)}: {path}"


def test_every_measured_figure_in_the_readme_stands_in_its_file(generate: Any) -> None:
    """`measured: FIGURE (file.json: path)` is the value that the path leads to, rounded as written."""
    text = (ROOT / "README.md").read_text()
    claimed = len(re.findall(r"measured: \d", text))
    assert claimed >= 10
    assert len(generate._FIGURE.findall(text)) == claimed, "a figure without file and path"
    assert text == generate.refreshed(text), (
        "the README's figures are stale: run docs/generate.py and read its rows again"
    )


def test_a_figure_that_its_file_does_not_have_is_noticed(generate: Any) -> None:
    wrong = "| fee measured: 5,001 lamports (`benchmarks/ledger/results/costs.json`: `instructions.11.fee`) |"
    assert generate.refreshed(wrong) == wrong.replace("5,001", "5,000")


def test_no_document_names_a_path_of_one_machine() -> None:
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "*.md"], check=True, capture_output=True, text=True)
    for name in tracked.stdout.split():
        assert not re.search(r"(?<![\w.])/(?:work|root|tmp/briefs)/", (ROOT / name).read_text()), name
