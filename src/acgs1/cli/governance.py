"""`acgs1 constitution`, `proposals`, `vote`, `approvals`, `authority`: the acts of legislators, members and operators.

Every command prints the service's answer as JSON; `authority` speaks to the ledger itself and prints the transaction's signature.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from acgs1.cli.faults import unusable
from acgs1.cli.person import as_person, ask, user_option
from acgs1.contracts.policy_governance import WalletTransaction
from acgs1.kit.constitution_file import InvalidConstitutionFile, load_constitution
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api

if TYPE_CHECKING:
    from solders.keypair import Keypair

    from acgs1.ledger.client import LedgerClient
    from acgs1.ledger.transactions import Receipt

Role = Literal["council", "emergency", "log", "verifier"]

_PROPOSALS = "/api/v1/proposals"
_title = click.option("--title", required=True, help="What people read when they vote.")
_seconds = click.option(
    "--voting-seconds", type=int, default=259_200, show_default=True, help="How long the vote is open."
)

_keypair = click.option(
    "--keypair",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your own wallet's keypair file in Solana's format (0600); it signs here and is sent nowhere.",
)


@click.group("constitution")
def constitution() -> None:
    """Constitutions: show, draft, compare, adopt."""


@constitution.command("show")
@click.argument("constitution_hash", metavar="[HASH]", required=False)
@user_option
def show(constitution_hash: str | None, user: str) -> None:
    """The constitution HASH; without it the one in force."""
    ask(user, "GET", "constitutional_ai", f"/api/v1/constitutions/{constitution_hash or 'in-force'}")


@constitution.command("draft")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@user_option
def draft(file: Path, user: str) -> None:
    """Check FILE and keep it as a draft; its `hash` names it from then on."""
    try:
        document = load_constitution(file).model_dump(mode="json")
    except InvalidConstitutionFile as error:
        raise click.ClickException(unusable(error)) from None
    ask(user, "POST", "constitutional_ai", "/api/v1/constitutions", document, files={"": file})


@constitution.command("difference")
@click.argument("constitution_hash", metavar="HASH")
@user_option
def difference(constitution_hash: str, user: str) -> None:
    """What the draft HASH would change in the constitution in force."""
    ask(user, "GET", "constitutional_ai", f"/api/v1/constitutions/{constitution_hash}/difference")


@constitution.command("adopt")
@click.argument("constitution_hash", metavar="HASH")
@user_option
def adopt(constitution_hash: str, user: str) -> None:
    """Adopt the founding constitution. Later ones come by `acgs1 proposals amend`."""
    path = f"/api/v1/constitutions/{constitution_hash}/adoption"
    ask(user, "POST", "constitutional_ai", path, {}, {"wait": 30})


@click.group("proposals")
def proposals() -> None:
    """What members vote on: list, make, finalize, take back, close."""


@proposals.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@user_option
def list_(limit: int, user: str) -> None:
    """Proposals, newest first."""
    ask(user, "GET", "policy_governance", _PROPOSALS, params={"limit": limit})


@proposals.command("show")
@click.argument("proposal_id", metavar="ID")
@user_option
def show_proposal(proposal_id: str, user: str) -> None:
    """One proposal."""
    ask(user, "GET", "policy_governance", f"{_PROPOSALS}/{proposal_id}")


@proposals.command("bundle")
@click.argument("bundle_hash", metavar="HASH")
@_title
@_seconds
@user_option
def bundle(bundle_hash: str, title: str, voting_seconds: int, user: str) -> None:
    """Propose the bundle HASH."""
    body = {"bundle_hash": bundle_hash, "title": title, "voting_seconds": voting_seconds}
    ask(user, "POST", "policy_governance", _PROPOSALS, body)


@proposals.command("amend")
@click.argument("constitution_hash", metavar="HASH")
@_title
@_seconds
@user_option
def amend(constitution_hash: str, title: str, voting_seconds: int, user: str) -> None:
    """Propose the draft HASH in place of the constitution in force."""
    body = {"constitution_hash": constitution_hash, "title": title, "voting_seconds": voting_seconds}
    ask(user, "POST", "policy_governance", f"{_PROPOSALS}/amendments", body)


@proposals.command("member")
@click.argument("action", type=click.Choice(["register", "set_weight", "remove"]))
@click.argument("user_id")
@click.option("--weight", type=click.IntRange(min=1))
@click.option("--wallet", help="The person's own wallet, for `register`; default: one is kept for them.")
@_title
@_seconds
@user_option
def member(
    action: str, user_id: str, weight: int | None, wallet: str | None, title: str, voting_seconds: int, user: str
) -> None:
    """Propose to register USER_ID as a member, to change their weight, or to remove them."""
    body: dict[str, Any] = {"action": action, "user_id": user_id, "title": title, "voting_seconds": voting_seconds}
    given = {name: value for name, value in (("weight", weight), ("wallet", wallet)) if value is not None}
    ask(user, "POST", "policy_governance", f"{_PROPOSALS}/memberships", {**body, **given})


@proposals.command("parameters")
@click.option("--threshold-bp", type=click.IntRange(5001, 10_000), help="Share of for and against that accepts.")
@click.option("--quorum-bp", type=click.IntRange(1, 10_000), help="Share of all weight that must take part.")
@click.option("--shortest-voting-seconds", type=click.IntRange(1, 2_592_000), help="The shortest window.")
@click.option("--vote-change/--no-vote-change", "vote_change_allowed", default=None, help="May votes be changed?")
@_title
@_seconds
@user_option
def parameters(title: str, voting_seconds: int, user: str, **rules: int | bool | None) -> None:
    """Propose other rules for the votes to come."""
    given = {name: value for name, value in rules.items() if value is not None}
    body: dict[str, Any] = {**given, "title": title, "voting_seconds": voting_seconds}
    ask(user, "POST", "policy_governance", f"{_PROPOSALS}/parameters", body)


@proposals.command("ratify")
@click.argument("emergency", type=click.IntRange(min=0))
@_title
@click.option(
    "--voting-seconds",
    type=int,
    default=86_400,
    show_default=True,
    help="How long the vote is open; it ends before the action.",
)
@user_option
def ratify(emergency: int, title: str, voting_seconds: int, user: str) -> None:
    """Put the emergency action with the index EMERGENCY to the vote."""
    body = {"emergency": emergency, "title": title, "voting_seconds": voting_seconds}
    ask(user, "POST", "policy_governance", f"{_PROPOSALS}/ratifications", body)


@proposals.command("finalize")
@click.argument("proposal_id", metavar="ID")
@user_option
def finalize(proposal_id: str, user: str) -> None:
    """Close the vote and carry out what it decided."""
    ask(user, "POST", "policy_governance", f"{_PROPOSALS}/{proposal_id}/finalization", {})


def _own_act(act: str, path: str, words: str) -> None:
    """A command for what only the proposer may do, with a wallet kept here or one's own."""

    @proposals.command(act, help=words)
    @click.argument("proposal_id", metavar="ID")
    @_keypair
    @user_option
    def command(proposal_id: str, keypair: Path | None, user: str) -> None:
        if keypair is not None:
            _sign(user, keypair, {"act": act, "proposal_id": proposal_id})
        else:
            ask(user, "POST", "policy_governance", f"{_PROPOSALS}/{proposal_id}/{path}", {})

    del command  # registered by the decorator


_own_act("cancel", "cancellation", "Take a proposal of yours back.")
_own_act("close", "closing", "Close a finished proposal of yours; its rent comes back.")


@proposals.command("open")
@click.argument("proposal_id", metavar="ID")
@_keypair
@user_option
def open_(proposal_id: str, keypair: Path | None, user: str) -> None:
    """Open the vote on an `unsigned` proposal of yours, with your own wallet."""
    if keypair is None:
        raise click.UsageError("--keypair is missing: a proposal waits for a signature only of a wallet of one's own")
    _sign(user, keypair, {"act": "propose", "proposal_id": proposal_id})


@click.command("vote")
@click.argument("proposal_id", metavar="ID")
@click.argument("choice", type=click.Choice(["for", "against", "abstain"]))
@_keypair
@user_option
def vote(proposal_id: str, choice: str, keypair: Path | None, user: str) -> None:
    """Vote on proposal ID."""
    if keypair is not None:
        _sign(user, keypair, {"act": "vote", "proposal_id": proposal_id, "choice": choice})
    else:
        ask(user, "POST", "policy_governance", f"{_PROPOSALS}/{proposal_id}/ballots", {"choice": choice})


@click.group("approvals")
def approvals() -> None:
    """What agents ask a person to approve."""


@approvals.command("list")
@click.option("--status", type=click.Choice(["pending", "granted", "refused", "used", "expired"]), default="pending")
@user_option
def list_approvals(status: str, user: str) -> None:
    """Approvals with this status, newest first."""
    ask(user, "GET", "policy_governance", "/api/v1/approvals", params={"status": status})


@approvals.command("answer")
@click.argument("approval_id", metavar="ID")
@click.argument("answer", type=click.Choice(["granted", "refused"]))
@click.option("--reason", required=True, help="Why; it is recorded.")
@user_option
def answer_approval(approval_id: str, answer: str, reason: str, user: str) -> None:
    """Grant or refuse one request."""
    body = {"answer": answer, "reason": reason}
    ask(user, "POST", "policy_governance", f"/api/v1/approvals/{approval_id}/answer", body)


@click.group("authority")
def authority() -> None:
    """Hand an authority of the ledger on, in two steps: its holder offers it, the new holder accepts it.

    The keys stay where they are: a service signs with the key in its data directory (keys/ledger/ROLE.json), so put the new holder's
    there and start the service again.
    """


_role = click.argument("role", type=click.Choice(["council", "emergency", "log", "verifier"]))


@authority.command("offer")
@_role
@click.argument("address")
@_keypair
def offer(role: Role, address: str, keypair: Path | None) -> None:
    """Offer ROLE to ADDRESS, signed with its present key (default: the one in this data directory)."""
    from acgs1.ledger.keys import parse_address

    try:
        to = parse_address(address)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    _hand_on(role, keypair, lambda client, key: client.offer_authority(key, role, to))


@authority.command("accept")
@_role
@click.option("--keypair", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def accept(role: Role, keypair: Path) -> None:
    """Accept ROLE with the key that it was offered to."""
    _hand_on(role, keypair, lambda client, key: client.accept_authority(key, role))


def _hand_on(
    role: str, keypair: Path | None, act: "Callable[[LedgerClient, Keypair], Coroutine[None, None, Receipt]]"
) -> None:
    from acgs1.core.errors import DomainError
    from acgs1.ledger.client import ledger_client
    from acgs1.ledger.keys import load_keypair

    settings = PlatformSettings()

    async def send() -> None:
        key = load_keypair(keypair or Home(settings.home).keys("ledger") / f"{role}.json")
        async with ledger_client(settings) as client:
            await client.ensure_funded(key.pubkey(), 10_000_000, 1_000_000_000)
            click.echo((await act(client, key)).signature)

    try:
        asyncio.run(send())
    except DomainError as error:
        raise click.ClickException(f"{error.code}: {error.detail}") from None


def _sign(user: str, keypair: Path, wanted: dict[str, str]) -> None:
    """Have a transaction handed out, sign it here, hand it back."""
    from solders.message import to_bytes_versioned
    from solders.pubkey import Pubkey
    from solders.transaction import VersionedTransaction

    from acgs1.ledger.errors import KeyFileError
    from acgs1.ledger.keys import load_keypair

    try:
        wallet = load_keypair(keypair)
    except KeyFileError as error:
        raise click.ClickException(error.detail) from None

    async def work(api: Api) -> None:
        path = "/api/v1/wallet-transactions"
        handed = await api.post("policy_governance", path, wanted, WalletTransaction)
        if handed.wallet != str(wallet.pubkey()):
            raise click.ClickException(f"`{keypair}` is `{wallet.pubkey()}`; the register has `{handed.wallet}`")
        given = VersionedTransaction.from_bytes(base64.b64decode(handed.transaction))
        signatures = list(given.signatures)
        place = list(given.message.account_keys).index(Pubkey.from_string(handed.wallet))
        signatures[place] = wallet.sign_message(to_bytes_versioned(given.message))
        signed = base64.b64encode(bytes(VersionedTransaction.populate(given.message, signatures))).decode()
        path = f"{path}/{handed.id}/signature"
        landed = await api.post("policy_governance", path, {"transaction": signed}, WalletTransaction)
        click.echo(landed.model_dump_json(indent=2))

    as_person(user, work)
