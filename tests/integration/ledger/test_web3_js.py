"""Conformance: the node as @solana/web3.js from npm sees it. Runs against a cluster too (ACGS_CONFORMANCE_URL)."""

import json
import subprocess
from pathlib import Path

import pytest

import npm

HERE = Path(__file__).with_name("web3")
pytestmark = pytest.mark.npm


@pytest.fixture(scope="module")
def seen(tmp_path_factory, endpoint):
    """What the client saw in one run."""
    directory = tmp_path_factory.mktemp("web3")
    node = npm.install(HERE, directory)
    command = [node, str(HERE / "web3.mjs"), str(directory), endpoint.url, endpoint.websocket]
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_it_sends_simulates_subscribes_and_reads(seen):
    assert seen["told"]["account"] == seen["balance"] == 2_000_000
    assert seen["told"]["logs"] == seen["signature"]
    assert seen["told"]["slot"] > 0
    assert seen["simulated"] is None
    assert seen["fee"] == 5000
    assert seen["history"] == [seen["signature"]]
    assert seen["version"]


def test_a_blockhash_is_valid_and_one_that_never_was_is_not(seen):
    assert seen["valid"] == [True, False]


def test_a_block_has_the_time_of_its_transactions(seen):
    assert seen["times"][0] == seen["times"][1] > 1_600_000_000


def test_every_encoding_and_every_commitment_tells_the_same(seen):
    assert seen["encodings"] == {"base58": 2_000_000, "base64": 2_000_000, "jsonParsed": 2_000_000}
    assert seen["paying"] == [True, True]
    assert seen["commitments"] == {"processed": 2_000_000, "confirmed": 2_000_000, "finalized": 2_000_000}


def test_a_transaction_in_base58_lands_as_one_in_base64_does(seen):
    assert seen["base58"] == "landed"


def test_a_transaction_that_would_fail_is_refused_with_its_logs(seen):
    name, message, logs = seen["refused"]
    assert name == "SendTransactionError"
    assert "custom program error: 0x1" in message
    assert any("insufficient lamports" in line for line in logs)


def test_without_preflight_it_lands_as_failed(seen):
    assert seen["failed"] == {"InstructionError": [0, {"Custom": 1}]}


def test_what_landed_is_refused_a_second_time(seen):
    assert "already been processed" in seen["duplicate"]


def test_a_blockhash_that_the_cluster_does_not_know_is_refused(seen):
    assert "Blockhash not found" in seen["unknown_blockhash"]


def test_errors_have_the_codes_of_solana(seen):
    codes = seen["codes"]
    assert codes["method"] == -32601
    assert codes["address"] == codes["commitment"] == codes["signature"] == -32602
    assert codes["unsigned"] == -32003
    assert codes["preflight"] == -32002
    assert codes["context"] == -32016
    # Which of them depends on how far the endpoint's own history reaches.
    assert codes["future"] in (-32004, -32007, -32009, -32014)
