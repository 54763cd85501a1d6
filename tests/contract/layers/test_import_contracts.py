"""The import contracts cover every module: what is new stands in a layer, and no use case imports web, database or solver."""

import re
import tomllib
from pathlib import Path
from typing import Any

import acgs1

PACKAGE = Path(acgs1.__file__).parent
CONTRACTS: list[dict[str, Any]] = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]


def _contract(name: str) -> dict[str, Any]:
    return next(contract for contract in CONTRACTS if contract["name"] == name)


def test_a_module_in_no_layer_fails():
    assert _contract("Layers of a room")["exhaustive"] is True


def test_every_rule_and_use_case_is_kept_from_web_database_cache_and_solver():
    layers: list[str] = _contract("Layers of a room")["layers"]
    inner = {
        name for layer in layers if re.search(r"\((service|domain)\)", layer) for name in re.findall(r"\w+", layer)
    }
    kept = set(_contract("Rules and use cases know no web, database, cache or solver")["source_modules"])
    rooms = [folder for folder in (PACKAGE / "services").iterdir() if (folder / "__init__.py").exists()]
    assert len(rooms) == 7
    there = {
        f"acgs1.services.{room.name}.{name}"
        for room in rooms
        for name in inner
        if (room / f"{name}.py").exists() or (room / name / "__init__.py").exists()
    }
    assert there == kept
