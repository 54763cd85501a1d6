"""Packages from npm for a test: exactly those of a committed lock file, installed outside the source tree."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def install(manifest: Path, into: Path) -> str:
    """Install what `package.json` and `package-lock.json` in `manifest` name into `into`; returns the path of Node.js.

    Where that cannot be done the test is skipped, and fails under continuous integration (`CI` is set): there, a test that
    never runs would go unnoticed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _give_up("Node.js or npm is not installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(manifest / name, into)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    result = subprocess.run(command, cwd=into, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        _give_up(f"npm cannot install {manifest.name}: {result.stderr.strip()[-300:]}")
    return node


def _give_up(reason: str) -> None:
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(reason)
    pytest.skip(reason)
