"""What others' tools make of the program: Anchor's client, and a rebuild from source."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Never

import pytest

BLOCKCHAIN = Path(__file__).resolve().parents[3] / "blockchain"
CLIENT = BLOCKCHAIN / "tests" / "anchor-client"
ARTIFACTS = BLOCKCHAIN.parent / "src" / "acgs1" / "ledger" / "artifacts"
LINKER = Path.home() / ".local" / "sbf" / "bin" / "sbpf-linker"


def unavailable(reason: str) -> Never:
    """On a developer's machine a missing tool skips the test; where the tools belong to the job, it is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.npm
@pytest.mark.slow
def test_anchors_own_client_builds_every_instruction_and_decodes_every_account_and_event(tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        unavailable("Node.js and npm are not installed")
    for name in ("package.json", "package-lock.json", "run.mjs"):
        shutil.copy(CLIENT / name, tmp_path)
    # Not `npm ci`: it wants litesvm's builds for every platform in the lock, and a registry that lacks one gives no such lock.
    installed = subprocess.run(
        [npm, "install", "--no-save", "--no-audit", "--no-fund"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        unavailable(f"npm cannot install the client: {installed.stderr[-200:]}")
    result = subprocess.run(
        [node, "run.mjs", ARTIFACTS], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["instructions"], report["accounts"], report["missing"]) == (24, 8, [])


@pytest.mark.rust
@pytest.mark.slow
def test_the_shipped_bytes_are_what_the_source_builds_elsewhere() -> None:
    if not LINKER.exists() or shutil.which("cargo") is None:
        unavailable("the SBF toolchain is not installed; run blockchain/setup.sh")
    result = subprocess.run(
        [BLOCKCHAIN / "build.sh", "--check"], capture_output=True, text=True, check=False, timeout=900
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.rust
@pytest.mark.slow
def test_the_rules_hold_on_the_host_and_the_lints_refuse_panics_and_unchecked_arithmetic() -> None:
    if shutil.which("cargo") is None:
        unavailable("cargo is not installed")
    for command in (
        ["cargo", "test", "--locked", "--quiet"],
        ["cargo", "clippy", "--locked", "--quiet", "--", "-D", "warnings"],
    ):
        result = subprocess.run(command, cwd=BLOCKCHAIN, capture_output=True, text=True, check=False, timeout=600)
        assert result.returncode == 0, result.stdout + result.stderr
