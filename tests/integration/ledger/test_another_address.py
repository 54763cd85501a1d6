"""The services on a program that `acgs1 ledger deploy` has put at an address of its own, as on a public cluster."""

import json

import httpx
import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from acgs1.cli.ledger import ledger
from acgs1.core.hashing import text_hash
from acgs1.core.merkle import TreeHead
from acgs1.kit.breaker import Breakers
from acgs1.kit.settings import PlatformSettings
from acgs1.ledger.client import MAINNET_GENESIS, LedgerClient, ledger_client
from acgs1.ledger.errors import UnfundedError
from acgs1.ledger.instructions import Parameters
from acgs1.ledger.keys import save_keypair
from acgs1.services.formal_verification.adapters.attestor import LedgerAttestor
from acgs1.services.integrity.adapters.ledger import SolanaLedger
from acgs1.services.policy_governance.adapters.ledger import SolanaGovernance
from governance import VerifierClient, airline, airline_policies


@pytest.fixture(scope="module")
def deployed(endpoint, tmp_path_factory):
    """The address at which the command has put the program."""
    folder = tmp_path_factory.mktemp("deployment")
    payer, program = Keypair(), folder / "program.json"
    save_keypair(folder / "payer.json", payer)

    def run(*words):
        result = CliRunner(env={"ACGS_HOME": str(folder / "home")}).invoke(ledger, ["--url", endpoint.url, *words])
        assert result.exit_code == 0, result.output

    run("airdrop", str(payer.pubkey()), "10")
    run(
        "deploy", "--payer", str(folder / "payer.json"), "--program-keypair", str(program),
        "--priority-percentile", "75", "--priority-cap", "1000",
    )  # fmt: skip
    return str(Keypair.from_bytes(bytes(json.loads(program.read_text()))).pubkey())


async def test_every_service_speaks_to_the_program_that_the_settings_name(endpoint, deployed, tmp_path):
    settings = PlatformSettings(home=tmp_path, urls={"ledger": endpoint.url}, ledger_program_id=deployed)
    keys = tmp_path / "keys"
    async with ledger_client(settings) as client:
        governance = SolanaGovernance(client, keys, Parameters(60, 6000, 5000), Breakers().get("a"))
        await governance.initialize()
        await governance.register_member(governance.wallet_of("usr_1"), 5)
        await governance.ratify(airline())
        state = await governance.state()
        assert (state.program_id, state.ratified, state.constitution_hash) == (deployed, True, airline().hash)

        certificate = VerifierClient().certificate(airline_policies(), airline())
        attestor = LedgerAttestor(settings, keys / "verifier.json", Breakers().get("b"))
        attested = await attestor.attest(certificate)
        assert (await client.transaction(attested.signature)).error is None
        assert (await client.get_attestation(certificate.hash)).constitution_version == 1

        log = SolanaLedger(client, keys / "log.json", Breakers().get("c"))
        head = TreeHead(7, bytes.fromhex(text_hash("root")))
        assert (await log.anchor(head)).anchor.program_id == deployed
        assert await log.anchored() == head
    async with ledger_client(settings, program_id=None, url=endpoint.url) as client:
        assert str(client.program) == deployed
    async with LedgerClient(endpoint.url) as elsewhere:
        assert str(elsewhere.program) != deployed
        assert await elsewhere.get_governance() is None, "nothing was done at the embedded node's own address"


def test_the_command_line_speaks_to_it_too(endpoint, deployed):
    env = {"ACGS_LEDGER_PROGRAM_ID": deployed, "ACGS_URLS": json.dumps({"ledger": endpoint.url})}
    result = CliRunner(env=env).invoke(ledger, ["status"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["program"] == deployed


def test_a_program_id_that_is_no_address_ends_the_process_with_its_name(monkeypatch):
    monkeypatch.setenv("ACGS_LEDGER_PROGRAM_ID", "0OIl")
    with pytest.raises(ValidationError, match="ledger_program_id"):
        PlatformSettings()


@pytest.mark.parametrize(
    ("faucet", "genesis", "asked"),
    [("auto", "another", True), ("auto", MAINNET_GENESIS, False), ("off", "another", False), ("on", MAINNET_GENESIS, True)],
)  # fmt: skip
async def test_the_faucet_is_asked_only_where_there_is_one(tmp_path, monkeypatch, faucet, genesis, asked):
    called = []

    async def answer(request):
        method = json.loads(request.content)["method"]
        called.append(method)
        status = {"slot": 1, "err": None, "confirmationStatus": "finalized"}
        result = {
            "getBalance": {"context": {"slot": 1}, "value": 3},
            "getGenesisHash": genesis,
            "requestAirdrop": "1" * 64,
            "getSignatureStatuses": {"context": {"slot": 1}, "value": [status]},
        }[method]
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": result})

    address = Pubkey.new_unique()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = LedgerClient("http://cluster/", faucet=faucet, http=http)
        await client.ensure_funded(address, 3, 10)
        assert called == ["getBalance"], "what is enough is enough"
        if asked:
            await client.ensure_funded(address, 4, 10)
        else:
            with pytest.raises(UnfundedError, match=f"`{address}` has 3 lamports and needs 4"):
                await client.ensure_funded(address, 4, 10)
    assert ("requestAirdrop" in called) == asked


def test_the_fees_of_the_settings_are_those_that_are_offered(tmp_path):
    settings = PlatformSettings(home=tmp_path, ledger_priority_percentile=60, ledger_priority_cap=7)
    sender = ledger_client(settings)._sender
    assert (sender._percentile, sender._cap) == (60, 7)
