"""The constitution and the policies of this benchmark, from the package's own files."""

from importlib.resources import files
from typing import Any

import yaml

from acgs1.contracts.constitution import Constitution


def constitution() -> Constitution:
    """The benchmark's constitution with its schema."""
    document: dict[str, Any] = yaml.safe_load(_text("constitution.yaml"))
    document["schema_text"] = _text(document.pop("schema_file"))
    return Constitution.model_validate(document)


def policies() -> str:
    """The policy set, Cedar."""
    return _text("policies.cedar")


def reviewed() -> dict[str, Any]:
    """`reviewed.yaml`: recorded correct calls that break a rule, and rules that no single call can decide."""
    return yaml.safe_load(_text("reviewed.yaml"))


def _text(name: str) -> str:
    return files("acgs1.cli.tau_airline").joinpath(name).read_text(encoding="utf-8")
