"""Building, signing, sending and confirming transactions, so that an intent takes effect at most once.

A transaction is known by its signature before it is sent. While its blockhash is valid it is only ever sent again as it is,
byte for byte, and a landed signature of our own is recognised. Only when a final block is past the last height at which it could
land, and an endpoint that has itself got so far does not know the signature, is the intent signed anew. Endpoints behind one
address lag behind each other, so an absence counts by the slot that the answer was given at, never by that of another answer.
"""

import asyncio
import base64
import itertools
import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import structlog
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.null_signer import NullSigner
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from acgs1.core.clock import Clock, SystemClock
from acgs1.ledger.errors import (
    LedgerError,
    LedgerUnavailableError,
    ProgramError,
    RpcFailureError,
    TransactionExpiredError,
    TransactionFailedError,
    TransactionUncertainError,
)
from acgs1.ledger.idl import Idl
from acgs1.ledger.json_values import as_array, as_object, as_strings
from acgs1.ledger.jsonrpc import JsonRpc
from acgs1.ledger.keys import address_of

_log = structlog.get_logger(__name__)

_PREFLIGHT_FAILURE: Final = -32002
_RANK: Final = {"processed": 0, "confirmed": 1, "finalized": 2}
# A blockhash lives for about 60 s; one that is reused for a few seconds leaves nearly all of that to the transaction.
_BLOCKHASH_REUSE_SECONDS: Final = 5.0
# So many transactions of equal content can be told apart while one blockhash is reused.
_EXCESSES: Final = 1 << 17
# So much of the count goes into the limit, which a priority fee is paid for; the rest into the price.
_EXCESS_UNITS: Final = 1 << 10
# What getRecentPrioritizationFees takes at most.
_FEE_ACCOUNTS: Final = 128
# As `PlatformSettings.ledger_priority_cap`.
PRIORITY_CAP: Final = 200_000
_POLL_FIRST, _POLL_MAX = 0.05, 1.0
_RESEND_SECONDS: Final = 2.0
# A blockhash lives for about 60 s, and a block is final some 13 s after it was made. An endpoint that cannot tell by then is stuck.
_LAND_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that landed and succeeded."""

    signature: str
    slot: int


@dataclass(frozen=True, slots=True)
class UnsignedTransaction:
    """A transaction for wallets to sign: `transaction` is the wire form with empty signatures (base64).

    It can land up to block height `last_valid_block_height`. `signers` are the addresses that have to sign, the payer first.
    """

    transaction: str
    last_valid_block_height: int
    signers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Status:
    """What one endpoint says of a signature at slot `told_at`; `reached` is None where it does not know it."""

    told_at: int
    slot: int = 0
    reached: str | None = None
    error: object = None


@dataclass(slots=True)
class _Way:
    """A signed transaction on its way. `known`: the ledger may have it."""

    tx: VersionedTransaction
    signature: str
    wire: str
    known: bool = False
    sent_at: float = -math.inf


class Sender:
    """Sends transactions to one endpoint, confirmed at `commitment`."""

    def __init__(
        self,
        rpc: JsonRpc,
        *,
        program: Pubkey,
        idl: Idl,
        commitment: str = "confirmed",
        priority_percentile: int | None = None,
        priority_cap: int = PRIORITY_CAP,
        attempts: int = 3,
        clock: Clock | None = None,
    ) -> None:
        """`priority_percentile` (0 to 100) of the fees lately paid for the same accounts is offered, and never more than
        `priority_cap` (micro-lamports a compute unit); None offers nothing."""
        if commitment not in _RANK:
            raise ValueError(f"commitment is one of {', '.join(_RANK)}, got `{commitment}`")
        if priority_percentile is not None and not 0 <= priority_percentile <= 100:
            raise ValueError(f"a percentile is from 0 to 100, got `{priority_percentile}`")
        self._rpc = rpc
        self._program = program
        self._idl = idl
        self._commitment = commitment
        if priority_cap < 0:
            raise ValueError(f"a cap on fees is at least 0, got `{priority_cap}`")
        self._percentile = priority_percentile
        self._cap = priority_cap
        self._attempts = attempts
        self._clock = clock or SystemClock()
        self._excess = itertools.count(secrets.randbelow(_EXCESSES))
        self._blockhash: tuple[Hash, int, float] | None = None

    async def send(
        self, instructions: Sequence[Instruction], signers: Sequence[Keypair], *, unit_limit: int = 60_000
    ) -> Receipt:
        """Land `instructions` in one transaction; the first signer pays. Returns when it has `commitment`.

        Raises ProgramError (the governance program refused), TransactionFailedError (refused otherwise),
        TransactionExpiredError (it can no longer land), TransactionUncertainError or LedgerUnavailableError.
        """
        payer = address_of(signers[0])
        distinct = list({address_of(s): s for s in signers}.values())
        for attempt in range(self._attempts):
            blockhash, last_valid = await self._recent_blockhash(fresh=attempt > 0)
            # Anew for each attempt: what did not land may have been outbid.
            full = [*await self._budget(instructions, unit_limit), *instructions]
            tx = VersionedTransaction(Message.new_with_blockhash(full, payer, blockhash), distinct)
            receipt = await self._land(tx, bytes(tx), last_valid, own=True)
            if receipt is not None:
                return receipt
            _log.info("transaction expired, signing anew", signature=str(tx.signatures[0]), attempt=attempt + 1)
        raise TransactionExpiredError(f"not landed in {self._attempts} attempts with a fresh blockhash each")

    async def prepare(self, instructions: Sequence[Instruction], payer: Pubkey) -> UnsignedTransaction:
        """The transaction of `instructions` for wallets to sign."""
        blockhash, last_valid = await self._recent_blockhash(fresh=True)
        full = [*await self._budget(instructions, 60_000), *instructions]
        message = Message.new_with_blockhash(full, payer, blockhash)
        keys = message.account_keys[: message.header.num_required_signatures]
        tx = VersionedTransaction(message, [NullSigner(k) for k in keys])
        return UnsignedTransaction(base64.b64encode(bytes(tx)).decode(), last_valid, tuple(str(k) for k in keys))

    async def submit(self, raw: bytes, last_valid_block_height: int) -> Receipt:
        """Land a transaction that came back signed. Raises as `send` does, and TransactionFailedError where a
        signature is missing or wrong."""
        try:
            tx = VersionedTransaction.from_bytes(raw)
        except ValueError as error:
            raise TransactionFailedError(f"not a transaction: {error}", "SanitizeFailure") from None
        if not all(tx.verify_with_results()):
            raise TransactionFailedError("a signature is missing or wrong", "SignatureFailure")
        receipt = await self._land(tx, raw, last_valid_block_height, own=False)
        if receipt is None:
            raise TransactionExpiredError("the transaction's blockhash is no longer valid; build it anew")
        return receipt

    async def await_signature(self, signature: str, timeout: float = 60.0) -> int:
        """Wait until a transaction that somebody else sent has the commitment; returns its slot.

        `timeout` in seconds. Raises TransactionFailedError, or TransactionExpiredError when the time is over.
        """
        until = self._clock.monotonic() + timeout
        delay = _POLL_FIRST
        while True:
            answer = await self._rpc.read("getSignatureStatuses", [signature], {"searchTransactionHistory": False})
            status = answer["value"][0]
            if status is not None:
                if status["err"] is not None:
                    raise TransactionFailedError(f"the transaction failed: {json.dumps(status['err'])}", status["err"])
                if _RANK[status.get("confirmationStatus") or "finalized"] >= _RANK[self._commitment]:
                    return int(status["slot"])
            if self._clock.monotonic() > until:
                raise TransactionExpiredError(f"`{signature}` did not land within {timeout:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, _POLL_MAX)

    # -- one signed transaction -------------------------------------------------------------------------------

    async def _land(self, tx: VersionedTransaction, raw: bytes, last_valid: int, *, own: bool) -> Receipt | None:
        """Send until it lands or never can (None). `own`: nobody but this call has ever had it."""
        way = _Way(tx, str(tx.signatures[0]), base64.b64encode(raw).decode())
        try:
            return await self._go(way, last_valid, own=own)
        except (LedgerUnavailableError, RpcFailureError) as error:
            if not way.known:
                raise
            raise TransactionUncertainError(error.detail, way.signature) from error

    async def _go(self, way: "_Way", last_valid: int, *, own: bool) -> Receipt | None:
        begun = self._clock.monotonic()
        expired_at: int | None = None  # a slot at which it can no longer land
        seen = False  # whether it has been told of, though not for certain yet
        delay = _POLL_FIRST
        while self._clock.monotonic() - begun <= _LAND_SECONDS:
            if expired_at is None and self._clock.monotonic() - way.sent_at >= _RESEND_SECONDS:
                receipt = await self._hand_over(way)
                if receipt is not None:
                    return receipt
                if own and not way.known:
                    return None  # no endpoint took it, so it is nowhere
            status = await self._status(way.signature, history=expired_at is not None)
            if status.reached is not None and _RANK[status.reached] >= _RANK[self._commitment]:
                if status.error is not None:
                    raise self.explain(status.error, way.tx)
                return Receipt(way.signature, status.slot)
            seen = seen or status.reached is not None
            if expired_at is None:
                expired_at = await self._expiry(last_valid)
                if expired_at is not None:
                    continue  # what was told before that does not count as absence
            elif not seen and status.told_at >= expired_at:
                return None
            await asyncio.sleep(delay)
            delay = min(delay * 2, _POLL_MAX)
        way.known = way.known or seen or not own
        raise LedgerUnavailableError(f"`{self._rpc.url}` told nothing certain within {_LAND_SECONDS:g} s")

    async def _hand_over(self, way: "_Way") -> Receipt | None:
        """Send it once; the receipt where the answer says that it has landed. Raises where it was refused."""
        way.sent_at = self._clock.monotonic()
        config = {"encoding": "base64", "preflightCommitment": self._commitment}
        try:
            slot = await self._rpc.send_transaction(way.wire, config)
        except LedgerUnavailableError as error:
            way.known = True
            _log.warning("send not answered, looking for the signature", signature=way.signature, error=error.detail)
            return None
        except RpcFailureError as error:
            refused = self._refused(error, way.tx)
            if refused is not None and not way.known:
                raise refused from error
            way.known = way.known or _error_of(error) == "AlreadyProcessed"
            return None
        way.known = True
        return None if slot is None else Receipt(way.signature, slot)

    def _refused(self, error: RpcFailureError, tx: VersionedTransaction) -> LedgerError | None:
        """What a refusal means; None where the transaction may still be (or have been) taken."""
        if error.rpc_code != _PREFLIGHT_FAILURE:
            return error
        reason = _error_of(error)
        if reason == "AlreadyProcessed":
            return None  # our own signature has landed: the status says how
        if reason == "BlockhashNotFound":
            return None
        return self.explain(reason, tx, as_strings((as_object(error.data) or {}).get("logs")))

    async def _status(self, signature: str, *, history: bool) -> "_Status":
        answer = await self._rpc.read("getSignatureStatuses", [signature], {"searchTransactionHistory": history})
        told_at = int(answer["context"]["slot"])
        status = answer["value"][0]
        if status is None:
            return _Status(told_at)
        # Old nodes leave confirmationStatus out for what is rooted.
        return _Status(told_at, status["slot"], status.get("confirmationStatus") or "finalized", status["err"])

    async def _expiry(self, last_valid: int) -> int | None:
        """A slot at which what was valid up to block height `last_valid` can no longer land; None while it still can.

        Of a final block, which no fork takes back: height and slot are of one answer, so they belong together.
        """
        info = await self._rpc.read("getEpochInfo", {"commitment": "finalized"})
        return int(info["absoluteSlot"]) if info["blockHeight"] > last_valid else None

    def explain(self, error: object, tx: VersionedTransaction, logs: Sequence[str] = ()) -> TransactionFailedError:
        """The exception for a transaction error in Solana's JSON."""
        located = as_array((as_object(error) or {}).get("InstructionError"))
        if located is not None:
            index, inner = cast("tuple[int, object]", tuple(located))
            program = tx.message.account_keys[tx.message.instructions[index].program_id_index]
            number = (as_object(inner) or {}).get("Custom")
            if isinstance(number, int) and program == self._program:
                fault = self._idl.errors.get(number)
                if fault is not None:
                    return ProgramError(fault.name, fault.number, f"{fault.name}: {fault.message}", error, logs)
            return TransactionFailedError(
                f"instruction {index} of `{program}` failed: {json.dumps(inner)}" + _last_log(logs), error, logs
            )
        return TransactionFailedError(f"the transaction failed: {json.dumps(error)}", error, logs)

    # -- blockhash and fee ------------------------------------------------------------------------------------

    async def _recent_blockhash(self, *, fresh: bool) -> tuple[Hash, int]:
        now = self._clock.monotonic()
        if self._blockhash is None or fresh or now - self._blockhash[2] > _BLOCKHASH_REUSE_SECONDS:
            value = (await self._rpc.read("getLatestBlockhash", {"commitment": self._commitment}))["value"]
            self._blockhash = (Hash.from_string(value["blockhash"]), value["lastValidBlockHeight"], now)
        return self._blockhash[0], self._blockhash[1]

    async def _budget(self, instructions: Sequence[Instruction], unit_limit: int) -> list[Instruction]:
        """Limit and price of compute units.

        They carry an excess that counts up from a random start: two equal intents signed over one blockhash would
        otherwise be one transaction, and the second caller would be told of the first one's success.
        """
        excess = next(self._excess) % _EXCESSES
        price = 0 if self._percentile is None else await self._price(instructions, self._percentile)
        if not price:
            return [set_compute_unit_limit(unit_limit + excess)]
        more, dearer = excess % _EXCESS_UNITS, excess // _EXCESS_UNITS
        return [set_compute_unit_limit(unit_limit + more), set_compute_unit_price(price + dearer)]

    async def _price(self, instructions: Sequence[Instruction], percent: int) -> int:
        """What to offer for a unit, in micro-lamports."""
        writable = sorted({str(a.pubkey) for i in instructions for a in i.accounts if a.is_writable})
        try:
            fees = await self._rpc.read("getRecentPrioritizationFees", writable[:_FEE_ACCOUNTS])
        except RpcFailureError as error:
            # Some endpoints do not have the method; a transaction without an offer lands all the same, only later.
            _log.warning("no fees to go by, offering none", url=self._rpc.url, error=error.detail)
            return 0
        return min(percentile([int(f["prioritizationFee"]) for f in fees], percent), self._cap)


def percentile(values: Sequence[int], percent: int) -> int:
    """The nearest-rank percentile of `values`; 0 for none."""
    if not values:
        return 0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _error_of(error: RpcFailureError) -> object:
    return (as_object(error.data) or {}).get("err")


def _last_log(logs: Sequence[str]) -> str:
    return f" ({logs[-1]})" if logs else ""
