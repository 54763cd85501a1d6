"""Members who hold their own keys: this service knows a public key and never more."""

import base64

import pytest
from solders.keypair import Keypair
from solders.message import Message, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.policy_governance import (
    NewBallot,
    NewMember,
    NewMembershipChange,
    NewProposal,
    NewWalletTransaction,
    WalletTransaction,
)
from acgs1.ledger.errors import ProgramError
from acgs1.services.policy_governance.errors import (
    InvalidWallet,
    NothingToChange,
    OwnWallet,
    ProposalNotOpen,
    TransactionAltered,
    TransactionExpired,
    WalletKeptHere,
    WalletTaken,
    WalletTransactionNotFound,
    WrongSigner,
)
from chamber import Chamber
from governance import OPERATOR, airline


async def found(chamber: Chamber) -> tuple[Identity, Keypair]:
    """Ines, whose wallet is kept here with weight 3, and Noor, who holds her own, with weight 2."""
    await chamber.watch.once()
    wallet = Keypair()
    for name, weight, own in (("ines", 3, None), ("noor", 2, str(wallet.pubkey()))):
        chamber.names[name] = chamber.people.add(Role.MEMBER)
        body = NewMember(user_id=chamber.names[name].id, weight=weight, wallet=own)
        member = await chamber.members.register(body, OPERATOR)
        assert member.own_wallet == (own is not None)
    await chamber.members.ratify(airline())
    return chamber.names["noor"], wallet


def signed(handed: WalletTransaction, wallet: Keypair) -> str:
    """What a wallet does: sign the message, put the signature in its place."""
    transaction = VersionedTransaction.from_bytes(base64.b64decode(handed.transaction))
    message = transaction.message
    signatures = list(transaction.signatures)
    place = list(message.account_keys).index(Pubkey.from_string(handed.wallet))
    signatures[place] = wallet.sign_message(to_bytes_versioned(message))
    return base64.b64encode(bytes(VersionedTransaction.populate(message, signatures))).decode()


async def handed(chamber: Chamber, by: Identity, **body: object) -> WalletTransaction:
    return await chamber.wallets.hand_out(NewWalletTransaction.model_validate(body), by)


async def test_a_vote_signed_by_the_members_own_wallet_counts_with_their_weight(chamber: Chamber):
    noor, wallet = await found(chamber)
    proposal = await chamber.proposed("ines", await chamber.built())
    with pytest.raises(OwnWallet):
        await chamber.voting.vote(proposal.id, NewBallot(choice="for"), noor)
    asked = await handed(chamber, noor, act="vote", proposal_id=proposal.id, choice="for")
    landed = await chamber.wallets.take_back(asked.id, signed(asked, wallet), noor)
    assert landed.status == "landed"
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 2
    (ballot,) = (await chamber.voting.ballots(proposal.id, None, 50)).items
    assert (ballot.user_id, ballot.signature) == (noor.id, landed.signature)
    assert await chamber.client.balance(wallet.pubkey()) == 0, "the fee is not the member's"
    assert not (chamber.home / "keys" / "members" / f"{noor.id}.json").exists(), "no key of theirs is made here"
    assert await chamber.wallets.take_back(asked.id, signed(asked, wallet), noor) == landed, "handing it in again"
    again = await handed(chamber, noor, act="vote", proposal_id=proposal.id, choice="against")
    with pytest.raises(ProgramError) as refusal:
        await chamber.wallets.take_back(again.id, signed(again, wallet), noor)
    assert refusal.value.code == "ledger_already_voted"


async def test_a_proposal_is_opened_cancelled_and_closed_with_the_members_own_wallet(chamber: Chamber):
    noor, wallet = await found(chamber)
    bundle = await chamber.built()
    body = NewProposal(bundle_hash=bundle.hash, title="Noor's", voting_seconds=3600)
    made = await chamber.voting.propose(body, noor)
    assert (made.status, made.index) == ("unsigned", None)
    asked = await handed(chamber, noor, act="propose", proposal_id=made.id)
    await chamber.wallets.take_back(asked.id, signed(asked, wallet), noor)
    opened = await chamber.voting.proposal(made.id)
    assert (opened.status, opened.index, opened.title) == ("open", 0, "Noor's")
    with pytest.raises(ProposalNotOpen):
        await handed(chamber, noor, act="propose", proposal_id=made.id)
    with pytest.raises(OwnWallet):
        await chamber.voting.cancel(made.id, noor)
    for act, status in (("cancel", "cancelled"), ("close", "cancelled")):
        asked = await handed(chamber, noor, act=act, proposal_id=made.id)
        await chamber.wallets.take_back(asked.id, signed(asked, wallet), noor)
        assert (await chamber.voting.proposal(made.id)).status == status
    closed = await chamber.voting.proposal(made.id)
    assert closed.closed
    assert len((await chamber.voting.proposals(None, 10)).items) == 1


async def test_a_transaction_that_is_handed_in_too_late_is_refused_and_another_one_lands(chamber: Chamber):
    noor, wallet = await found(chamber)
    proposal = await chamber.proposed("ines", await chamber.built())
    late = await handed(chamber, noor, act="vote", proposal_id=proposal.id, choice="for")
    chamber.clock.advance(120)
    with pytest.raises(TransactionExpired):
        await chamber.wallets.take_back(late.id, signed(late, wallet), noor)
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 0
    fresh = await handed(chamber, noor, act="vote", proposal_id=proposal.id, choice="for")
    await chamber.wallets.take_back(fresh.id, signed(fresh, wallet), noor)
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 2


async def test_the_wrong_wallet_and_an_altered_message_are_refused_and_the_council_signs_neither(chamber: Chamber):
    noor, wallet = await found(chamber)
    proposal = await chamber.proposed("ines", await chamber.built())
    asked = await handed(chamber, noor, act="vote", proposal_id=proposal.id, choice="for")
    with pytest.raises(WrongSigner):
        await chamber.wallets.take_back(asked.id, signed(asked, Keypair()), noor)
    with pytest.raises(WrongSigner):
        await chamber.wallets.take_back(asked.id, asked.transaction, noor)
    given = VersionedTransaction.from_bytes(base64.b64decode(asked.transaction)).message
    council = given.account_keys[0]
    theft = transfer(TransferParams(from_pubkey=council, to_pubkey=wallet.pubkey(), lamports=1_000_000))
    message = Message.new_with_blockhash([theft], council, given.recent_blockhash)
    altered = VersionedTransaction.populate(message, [wallet.sign_message(bytes(message))])
    for transaction in (base64.b64encode(bytes(altered)).decode(), "bm90IG9uZQ==", "!"):
        with pytest.raises(TransactionAltered):
            await chamber.wallets.take_back(asked.id, transaction, noor)
    assert await chamber.client.balance(wallet.pubkey()) == 0
    await chamber.wallets.take_back(asked.id, signed(asked, wallet), noor)
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 2


async def test_each_wallet_is_one_persons_and_each_transaction_one_wallets(chamber: Chamber):
    noor, wallet = await found(chamber)
    ines, other = chamber.names["ines"], chamber.people.add(Role.MEMBER)
    proposal = await chamber.proposed("ines", await chamber.built())
    asked = await handed(chamber, noor, act="vote", proposal_id=proposal.id, choice="for")
    with pytest.raises(WalletTransactionNotFound):
        await chamber.wallets.take_back(asked.id, signed(asked, wallet), ines)
    with pytest.raises(WalletKeptHere):
        await handed(chamber, ines, act="vote", proposal_id=proposal.id, choice="for")
    with pytest.raises(NothingToChange):
        await handed(chamber, noor, act="vote", proposal_id=proposal.id)
    body = {"action": "register", "user_id": other.id, "weight": 1, "title": "Another", "voting_seconds": 3600}
    with pytest.raises(WalletTaken):
        await chamber.voting.propose_membership(
            NewMembershipChange.model_validate({**body, "wallet": str(wallet.pubkey())}), ines
        )
    program_address = str(chamber.client.build.at.governance)
    with pytest.raises(InvalidWallet):
        await chamber.voting.propose_membership(
            NewMembershipChange.model_validate({**body, "wallet": program_address}), ines
        )


async def test_a_kill_between_signing_and_noting_it_lands_the_vote_once(chamber: Chamber):
    noor, wallet = await found(chamber)
    proposal = await chamber.proposed("ines", await chamber.built())
    asked = await handed(chamber, noor, act="vote", proposal_id=proposal.id, choice="for")
    land = chamber.ledger.land

    async def then_dies(*arguments: object) -> str:
        await land(*arguments)  # type: ignore[arg-type]
        raise RuntimeError("killed")

    chamber.ledger.land = then_dies  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="killed"):
        await chamber.wallets.take_back(asked.id, signed(asked, wallet), noor)
    chamber.restart()
    chamber.clock.advance(120)
    landed = await chamber.wallets.take_back(asked.id, signed(asked, wallet), noor)
    assert landed.status == "landed", "although its blockhash is no longer valid"
    assert (await chamber.voting.proposal(proposal.id)).for_weight == 2
