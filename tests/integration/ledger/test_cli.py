"""`acgs1 ledger` against a node in a process of its own."""

import asyncio
import json

import pytest
from click.testing import CliRunner
from solders.keypair import Keypair

from acgs1.cli.ledger import ledger
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.errors import LedgerUnavailableError
from acgs1.ledger.instructions import Authorities, Parameters
from acgs1.ledger.keys import save_keypair
from acgs1.ledger.node.settings import NodeSettings
from acgs1.ledger.program import shipped

A, B, C, D = (letter * 64 for letter in "abcd")


@pytest.fixture
def run(endpoint, tmp_path):
    env = {"ACGS_HOME": str(tmp_path / "home")}

    def invoke(*words, url=endpoint.url):
        return CliRunner(env=env).invoke(ledger, ["--url", url, *words])

    return invoke


@pytest.fixture
def json_of(run):
    def invoke(*words):
        result = run(*words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return invoke


@pytest.fixture(scope="module")
def member(endpoint):
    """A member who has proposed a policy and voted for it."""
    wallet = Keypair()

    async def found():
        async with LedgerClient(endpoint.url) as client:
            await client.airdrop(wallet.pubkey(), 10**9)
            who = Authorities(*(wallet.pubkey() for _ in range(4)))
            await client.ensure_initialized(wallet, who, Parameters(voting_period=60), A)
            await client.add_principle(wallet, "Tell the truth", C, B)
            await client.register_member(wallet, wallet.pubkey(), 7)
            await client.ratify(wallet, B)
            proposed = await client.propose(wallet, "policy", C, D)
            await client.vote(wallet, proposed.index, "for")
            await client.attest(wallet, D, C, 1)
            await client.anchor_root(wallet, 5, A)
            await client.emergency_action(wallet, "freeze_activation", None, A, 60)

    asyncio.run(found())
    return wallet


def test_status_says_what_the_governance_account_and_the_anchor_say(json_of, member):
    status = json_of("status")
    assert status["program"] == shipped().program_id
    assert status["governance"]["council"] == str(member.pubkey())
    assert status["governance"]["ratified"] is True
    assert (status["anchor"]["tree_size"], status["anchor"]["root"]) == (5, A)


def test_show_gives_every_register_as_json(json_of, member):
    assert json_of("show", "principles")[0]["title"] == "Tell the truth"
    assert json_of("show", "members")[0]["wallet"] == str(member.pubkey())
    assert json_of("show", "members")[0]["weights"][0] == 7
    (proposal,) = json_of("show", "proposals")
    assert (proposal["status"], proposal["votes_for"], proposal["ballots"][:2]) == ("active", 7, "01")
    assert json_of("show", "policies") == []
    (attestation,) = json_of("show", "attestations")
    assert (attestation["certificate_hash"], attestation["content_hash"], attestation["constitution_version"]) == (
        D,
        C,
        1,
    )
    assert json_of("show", "emergencies")[0]["kind"] == "freeze_activation"
    events = json_of("show", "events")
    assert [e["event"] for e in events] == [
        "Initialized", "PrincipleChanged", "MemberChanged", "Ratified", "ProposalCreated", "VoteCast", "Attested",
        "RootAnchored", "EmergencyTaken",
    ]  # fmt: skip
    assert all(e["signature"] and isinstance(e["slot"], int) for e in events)


def test_airdrop_gives_exactly_the_amount_asked_for(run, endpoint):
    to = Keypair().pubkey()
    result = run("airdrop", str(to), "1.100000001")
    assert result.exit_code == 0, result.output

    async def balance():
        async with LedgerClient(endpoint.url) as client:
            assert await client.transaction(result.stdout.strip()) is not None
            return await client.balance(to)

    assert asyncio.run(balance()) == 1_100_000_001


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "1e-10", "much", "1e30"])
def test_an_amount_that_is_none_is_a_usage_error(run, amount):
    result = run("airdrop", "--", str(Keypair().pubkey()), amount)
    assert result.exit_code == 2
    assert f"`{amount}` is not an amount of SOL" in result.output


def test_an_address_that_is_none_is_a_usage_error(run):
    result = run("airdrop", "nobody", "1")
    assert result.exit_code == 2
    assert "`nobody` is not an address" in result.output


def test_the_faucets_limit_is_told(run):
    result = run("airdrop", str(Keypair().pubkey()), "100000")
    assert result.exit_code == 1
    assert "the faucet gives 1 to 1000000000000 lamports" in result.output


def test_verify_accepts_the_shipped_program(run):
    result = run("verify")
    assert result.exit_code == 0
    assert shipped().sha256 in result.stdout


def test_verify_refuses_an_address_without_a_program_and_a_program_that_is_another(run):
    nothing = run("--program", str(Keypair().pubkey()), "verify")
    assert nothing.exit_code == 1
    assert "there is no program at" in nothing.output
    other = run("--program", "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", "verify")
    assert other.exit_code == 1
    assert "the deployed program differs from the shipped one" in other.output


def test_deploy_puts_the_shipped_program_where_verify_finds_it(run, endpoint, tmp_path):
    payer = Keypair()
    save_keypair(tmp_path / "payer.json", payer)
    assert run("airdrop", str(payer.pubkey()), "10").exit_code == 0
    keys = ["--payer", str(tmp_path / "payer.json"), "--program-keypair", str(tmp_path / "program.json")]
    result = run("deploy", *keys)
    assert result.exit_code == 0, result.output
    address = Keypair.from_bytes(bytes(json.loads((tmp_path / "program.json").read_text()))).pubkey()
    assert run("--program", str(address), "verify").exit_code == 0
    again = run("deploy", *keys)
    assert again.exit_code == 1
    assert "is this one already" in again.output


def test_a_deployment_that_was_cut_off_keeps_its_key_until_it_is_done_or_given_up(run, endpoint, tmp_path, monkeypatch):
    payer = Keypair()
    save_keypair(tmp_path / "payer.json", payer)
    assert run("airdrop", str(payer.pubkey()), "10").exit_code == 0
    keys = ["--payer", str(tmp_path / "payer.json"), "--program-keypair", str(tmp_path / "program.json")]
    folder = tmp_path / "home" / "keys" / "ledger"

    def cut_off():
        real, sends = LedgerClient.send, iter(range(20))

        async def send(self, *arguments):
            if next(sends, None) is None:
                raise LedgerUnavailableError("the connection is gone")
            return await real(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(LedgerClient, "send", send)
            result = run("deploy", *keys)
        assert result.exit_code == 1
        assert "the connection is gone" in result.output
        (key_file,) = folder.glob("buffer-*.json")
        assert key_file.stat().st_mode & 0o777 == 0o600

    cut_off()
    given_up = run("deploy", *keys, "--abandon")
    assert given_up.exit_code == 0, given_up.output
    assert int(given_up.stdout.split()[0]) > 10**8
    assert list(folder.glob("buffer-*.json")) == []
    cut_off()
    done = run("deploy", *keys)
    assert done.exit_code == 0, done.output
    assert list(folder.glob("buffer-*.json")) == []


def test_a_node_that_does_not_answer_is_named(run):
    result = run("status", url="http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in result.output


@pytest.mark.parametrize(
    ("env", "reached"),
    [
        ({"ACGS_PORT_OFFSET": "11"}, "127.0.0.1:8910"),
        ({"ACGS_PORT_OFFSET": "11", "ACGS_LEDGER_URL": "http://127.0.0.2:1"}, "127.0.0.2:1"),
        ({"ACGS_URLS": '{"ledger": "http://127.0.0.3:1"}'}, "127.0.0.3:1"),
    ],
)
def test_the_node_is_looked_for_where_this_installation_has_it(env, reached):
    result = CliRunner(env=env).invoke(ledger, ["status"])
    assert result.exit_code == 1
    assert reached in result.output


def test_a_node_of_its_own_listens_at_the_offset_too(tmp_path):
    env = {"ACGS_HOME": str(tmp_path), "ACGS_PORT_OFFSET": "11"}
    settings = NodeSettings.from_env(env)
    assert (settings.port, settings.pubsub_port) == (8910, 8911)
    assert NodeSettings.from_env({**env, "ACGS_LEDGER_PORT": "9000"}).port == 9000
