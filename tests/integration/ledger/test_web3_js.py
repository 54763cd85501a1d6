"""Conformance: the node as @solana/web3.js from npm sees it. The package is installed into a temporary directory."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = "@solana/web3.js@1.98.0"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js or npm is not installed")
    directory = tmp_path_factory.mktemp("web3")
    (directory / "package.json").write_text('{"private": true}')
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", PACKAGE]
    result = subprocess.run(install, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {result.stderr.strip()[-300:]}")
    return node, directory


@pytest.mark.npm
def test_web3_js_sends_simulates_subscribes_and_reads(installed, endpoint):
    node, directory = installed
    script = Path(__file__).with_name("web3.mjs")
    command = [node, str(script), str(directory), endpoint.url, endpoint.websocket]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["told"]["account"] == seen["balance"] == 2_000_000
    assert seen["told"]["logs"] == seen["signature"]
    assert seen["told"]["slot"] > 0
    assert seen["simulated"] is None
    assert seen["fee"] == 5000
    assert seen["refused"] == ["SendTransactionError", True]
    assert seen["history"] == [seen["signature"]]
    assert seen["version"]
