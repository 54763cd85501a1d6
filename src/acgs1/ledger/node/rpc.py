"""The JSON-RPC methods. Names, parameters and answers: https://solana.com/docs/rpc/http

Every answer waits until all that it saw is durable (`Chain.settled`), so `processed`, `confirmed` and `finalized` are
one and the same here: what is told is final.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from solders.account import Account
from solders.message import from_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from acgs1.ledger.json_values import as_array, as_object
from acgs1.ledger.node.chain import Chain
from acgs1.ledger.node.encoding import (
    ACCOUNT_ENCODINGS,
    PACKET_SIZE,
    TRANSACTION_ENCODINGS,
    account_json,
    decode_bytes,
    decode_transaction,
    parse_pubkey,
    transaction_json,
)
from acgs1.ledger.node.errors import (
    BLOCK_NOT_AVAILABLE,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MIN_CONTEXT_SLOT_NOT_REACHED,
    PARSE_ERROR,
    SIGNATURE_VERIFICATION_FAILURE,
    RpcError,
    invalid_params,
)
from acgs1.ledger.node.machine import Simulation
from acgs1.ledger.node.slots import MAX_PROCESSING_AGE, SLOTS_PER_EPOCH

# The Agave release whose runtime solders 0.29 carries; clients look at it for the methods they may use.
RPC_VERSION: Final = "4.1.2"
_COMMITMENTS: Final = ("processed", "confirmed", "finalized")
_MAX_ACCOUNTS: Final = 100
_MAX_STATUSES: Final = 256
_MAX_SIGNATURES: Final = 1000
_MAX_FILTERS: Final = 4
_MAX_BATCH: Final = 100

Params = Sequence[object]
Method = Callable[[Params], Awaitable[object]]


class Config:
    """The trailing configuration object of a method, read field by field with Solana's types."""

    def __init__(self, params: Params, position: int) -> None:
        value = params[position] if len(params) > position else None
        values = as_object({} if value is None else value)
        if values is None:
            raise invalid_params(f"invalid type: expected a configuration object at position {position}, got `{value}`")
        self._values = values
        commitment = self._values.get("commitment")
        if commitment is not None and commitment not in _COMMITMENTS:
            raise invalid_params(f"unknown commitment `{commitment}`, expected one of {', '.join(_COMMITMENTS)}")

    def raw(self, name: str) -> object:
        return self._values.get(name)

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise invalid_params(f"invalid type: `{name}` is a boolean, got `{value}`")
        return value

    def number(self, name: str) -> int | None:
        value = self._values.get(name)
        return None if value is None else natural(value, name)

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        value = self._values.get(name)
        if value is None:
            return default
        if value not in allowed or not isinstance(value, str):
            raise invalid_params(f"unsupported {name} `{value}`, expected one of {', '.join(allowed)}")
        return value

    def signature(self, name: str) -> bytes | None:
        value = self._values.get(name)
        return None if value is None else parse_signature(value)

    def data_slice(self) -> tuple[int, int] | None:
        value = self._values.get("dataSlice")
        if value is None:
            return None
        bounds = as_object(value)
        if bounds is None:
            raise invalid_params("invalid type: `dataSlice` is an object of `offset` and `length`")
        return natural(bounds.get("offset"), "dataSlice.offset"), natural(bounds.get("length"), "dataSlice.length")


def natural(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise invalid_params(f"invalid type: `{name}` is an unsigned 64-bit integer, got `{value}`")
    return value


def parse_signature(text: object) -> bytes:
    try:
        if isinstance(text, str):
            return bytes(Signature.from_string(text))
    except ValueError:
        pass
    raise invalid_params(f"Invalid param: `{str(text)[:100]}` is not a signature of 64 bytes in base58")


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer: one JSON object, a list for a batch, None for nothing at all. `landed_slot` is where a transaction
    that was sent, and is on the disk by now, succeeded."""

    body: object | None
    landed_slot: int | None = None


class Rpc:
    """The method table over one chain."""

    def __init__(self, chain: Chain, *, airdrop_limit: int) -> None:
        self._chain = chain
        self._airdrop_limit = airdrop_limit
        self._methods: dict[str, Method] = {
            "getAccountInfo": self._account_info,
            "getBalance": self._balance,
            "getBlock": self._block,
            "getBlockHeight": self._slot,
            "getBlockTime": self._block_time,
            "getBlocks": self._blocks,
            "getEpochInfo": self._epoch_info,
            "getEpochSchedule": self._epoch_schedule,
            "getFeeForMessage": self._fee_for_message,
            "getFirstAvailableBlock": self._first_block,
            "getGenesisHash": self._genesis_hash,
            "getHealth": self._health,
            "getIdentity": self._identity,
            "getLatestBlockhash": self._latest_blockhash,
            "getMinimumBalanceForRentExemption": self._rent_exemption,
            "getMultipleAccounts": self._multiple_accounts,
            "getProgramAccounts": self._program_accounts,
            "getRecentPrioritizationFees": self._prioritization_fees,
            "getSignatureStatuses": self._signature_statuses,
            "getSignaturesForAddress": self._signatures_for_address,
            "getSlot": self._slot,
            "getTransaction": self._transaction,
            "getTransactionCount": self._transaction_count,
            "getVersion": self._version,
            "isBlockhashValid": self._blockhash_valid,
            "minimumLedgerSlot": self._first_block,
            "requestAirdrop": self._airdrop,
            "sendTransaction": self._send,
            "simulateTransaction": self._simulate,
        }

    async def handle(self, body: bytes) -> Answer:
        """The answer to a request body."""
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return Answer(_failure(None, RpcError(PARSE_ERROR, "Parse error")))
        if (batch := as_array(request)) is not None:
            if not 1 <= len(batch) <= _MAX_BATCH:
                return Answer(
                    _failure(None, RpcError(INVALID_REQUEST, f"Invalid request: a batch holds 1 to {_MAX_BATCH} calls"))
                )
            answers = [a for r in batch if (a := await self.call(r)) is not None]
            return Answer(answers or None)
        answer = await self.call(request)
        sent = as_object(request)
        if answer is None or sent is None or sent["method"] != "sendTransaction" or "result" not in answer:
            return Answer(answer)
        status = self._chain.status(parse_signature(answer["result"]))
        return Answer(answer, None if status is None or status[1] is not None else status[0])

    async def call(self, request: object) -> dict[str, object] | None:
        call = as_object(request)
        method = None if call is None else call.get("method")
        if call is None or not isinstance(method, str):
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid request"))
        identifier = call.get("id")
        if call.get("jsonrpc") != "2.0" or isinstance(identifier, dict | list | bool):
            return _failure(None, RpcError(INVALID_REQUEST, "Invalid request"))
        try:
            result = await self.invoke(method, call.get("params"))
        except RpcError as error:
            answer = _failure(identifier, error)
        else:
            answer: dict[str, object] = {"jsonrpc": "2.0", "result": result, "id": identifier}
        return answer if "id" in call else None

    async def invoke(self, name: str, params: object) -> object:
        """The result of one method. Raises RpcError."""
        method = self._methods.get(name)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        arguments = as_array([] if params is None else params)
        if arguments is None:
            raise RpcError(INVALID_PARAMS, "`params` should be an array")
        self._chain.check()
        result = await method(arguments)
        await self._chain.settled()
        return result

    # -- helpers ----------------------------------------------------------------------------------------------

    def _context(self, value: object, slot: int | None = None) -> dict[str, object]:
        """`slot`: the one that `value` was read at; default: the current one."""
        at = self._chain.slot() if slot is None else slot
        return {"context": {"apiVersion": RPC_VERSION, "slot": at}, "value": value}

    def _config(self, params: Params, position: int) -> Config:
        config = Config(params, position)
        wanted = config.number("minContextSlot")
        slot = self._chain.slot()
        if wanted is not None and wanted > slot:
            raise RpcError(
                MIN_CONTEXT_SLOT_NOT_REACHED, "Minimum context slot has not been reached", {"contextSlot": slot}
            )
        return config

    # -- the cluster ------------------------------------------------------------------------------------------

    async def _health(self, _: Params) -> object:
        return "ok"

    async def _version(self, _: Params) -> object:
        # `feature-set`, the number of a validator's build, is optional; null is not among what web3.js accepts for it.
        return {"solana-core": RPC_VERSION}

    async def _identity(self, _: Params) -> object:
        return {"identity": str(self._chain.faucet.pubkey())}

    async def _genesis_hash(self, _: Params) -> object:
        return str(self._chain.genesis_hash)

    async def _slot(self, params: Params) -> object:
        self._config(params, 0)
        return self._chain.slot()

    async def _first_block(self, _: Params) -> object:
        return 0

    async def _transaction_count(self, params: Params) -> object:
        self._config(params, 0)
        return self._chain.transaction_count

    async def _epoch_info(self, params: Params) -> object:
        self._config(params, 0)
        slot = self._chain.slot()
        return {
            "absoluteSlot": slot,
            "blockHeight": slot,
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": self._chain.transaction_count,
        }

    async def _epoch_schedule(self, _: Params) -> object:
        return {
            "slotsPerEpoch": SLOTS_PER_EPOCH,
            "leaderScheduleSlotOffset": SLOTS_PER_EPOCH,
            "warmup": False,
            "firstNormalEpoch": 0,
            "firstNormalSlot": 0,
        }

    async def _block_time(self, params: Params) -> object:
        return self._chain.slots.unix_time(self._existing_slot(params))

    def _existing_slot(self, params: Params) -> int:
        slot = natural(params[0] if params else None, "slot")
        if slot > self._chain.slot():
            raise RpcError(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        return slot

    async def _block(self, params: Params) -> object:
        slot = self._existing_slot(params)
        config = self._config(params, 1)
        encoding = config.choice("encoding", "json", TRANSACTION_ENCODINGS)
        details = config.choice("transactionDetails", "full", ("full", "signatures", "none"))
        max_version = config.number("maxSupportedTransactionVersion")
        records = await self._chain.query(self._chain.journal.records_in_slot, slot)
        block: dict[str, object] = {
            "blockhash": _hash_text(self._chain.slots.blockhash(slot)),
            "previousBlockhash": _hash_text(self._chain.slots.blockhash(max(slot - 1, 0))),
            "parentSlot": max(slot - 1, 0),
            "blockHeight": slot,
            "blockTime": self._chain.slots.unix_time(slot),
            "rewards": [],
        }
        if details == "full":
            block["transactions"] = [transaction_json(r, encoding, max_version) for r in records]
        elif details == "signatures":
            block["signatures"] = [str(Signature(r.signature)) for r in records]
        return block

    async def _blocks(self, params: Params) -> object:
        """Every slot has a block here, so this is the range itself, bounded as on a cluster."""
        first = natural(params[0] if params else None, "start_slot")
        last = natural(params[1], "end_slot") if len(params) > 1 and isinstance(params[1], int) else self._chain.slot()
        if last - first > 500_000:
            raise invalid_params("Slot range too large; max 500000")
        return list(range(first, min(last, self._chain.slot()) + 1))

    async def _latest_blockhash(self, params: Params) -> object:
        self._config(params, 0)
        slot = self._chain.slot()
        return self._context(
            {
                "blockhash": _hash_text(self._chain.slots.blockhash(slot)),
                "lastValidBlockHeight": slot + MAX_PROCESSING_AGE,
            }
        )

    async def _blockhash_valid(self, params: Params) -> object:
        self._config(params, 1)
        blockhash = bytes(parse_pubkey(params[0] if params else None))
        return self._context(self._chain.slots.slot_of(blockhash, self._chain.slot()) is not None)

    async def _fee_for_message(self, params: Params) -> object:
        self._config(params, 1)
        raw = decode_bytes(_text(params, 0, "message"), "base64", PACKET_SIZE)
        try:
            message = from_bytes_versioned(raw)
        except ValueError as error:
            raise invalid_params(
                f"failed to deserialize solana_message::versioned::VersionedMessage: {error}"
            ) from None
        if self._chain.slots.slot_of(bytes(message.recent_blockhash), self._chain.slot()) is None:
            return self._context(None)
        unsigned = VersionedTransaction.populate(
            message, [Signature.default()] * message.header.num_required_signatures
        )
        return self._context(self._chain.simulate(unsigned).fee)

    async def _prioritization_fees(self, _: Params) -> object:
        """Nobody competes for this node's blocks, so the fee that was needed is zero, for as long as there were blocks."""
        slot = self._chain.slot()
        return [{"slot": s, "prioritizationFee": 0} for s in range(max(0, slot - MAX_PROCESSING_AGE + 1), slot + 1)]

    async def _rent_exemption(self, params: Params) -> object:
        self._config(params, 1)
        size = natural(params[0] if params else None, "size")
        if size > 10 * 1024 * 1024:
            raise invalid_params(f"an account holds at most 10485760 bytes, got `{size}`")
        return self._chain.machine.rent_exempt(size)

    # -- accounts ---------------------------------------------------------------------------------------------

    async def _balance(self, params: Params) -> object:
        self._config(params, 1)
        address = parse_pubkey(params[0] if params else None)
        return self._context(self._chain.machine.balance(address))

    async def _account_info(self, params: Params) -> object:
        config = self._config(params, 1)
        encoding = config.choice("encoding", "binary", ACCOUNT_ENCODINGS)
        slot = self._chain.slot()
        account = self._chain.account(parse_pubkey(params[0] if params else None), slot)
        return self._context(None if account is None else account_json(account, encoding, config.data_slice()), slot)

    async def _multiple_accounts(self, params: Params) -> object:
        addresses = _list(params, 0, "addresses", _MAX_ACCOUNTS)
        config = self._config(params, 1)
        encoding = config.choice("encoding", "base64", ACCOUNT_ENCODINGS)
        data_slice = config.data_slice()
        slot = self._chain.slot()
        found = [self._chain.account(parse_pubkey(a), slot) for a in addresses]
        return self._context([None if a is None else account_json(a, encoding, data_slice) for a in found], slot)

    async def _program_accounts(self, params: Params) -> object:
        program = parse_pubkey(params[0] if params else None)
        config = self._config(params, 1)
        encoding = config.choice("encoding", "binary", ACCOUNT_ENCODINGS)
        data_slice = config.data_slice()
        accepts = account_filter(config.raw("filters"))
        slot = self._chain.slot()
        found: list[dict[str, object]] = [
            {"pubkey": str(address), "account": account_json(account, encoding, data_slice)}
            for address, account in self._chain.program_accounts(program, slot)
            if accepts(account)
        ]
        found.sort(key=lambda row: str(row["pubkey"]))
        return self._context(found, slot) if config.flag("withContext") else found

    # -- history ----------------------------------------------------------------------------------------------

    async def _signature_statuses(self, params: Params) -> object:
        signatures = [parse_signature(s) for s in _list(params, 0, "signatures", _MAX_STATUSES)]
        config = self._config(params, 1)
        history = config.flag("searchTransactionHistory")
        statuses: list[object] = []
        for signature in signatures:
            status = self._chain.status(signature)
            if status is None and history:
                record = await self._chain.query(self._chain.journal.record, signature)
                status = (record.slot, json.loads(record.meta)["err"]) if record else None
            statuses.append(None if status is None else _status_json(*status))
        return self._context(statuses)

    async def _signatures_for_address(self, params: Params) -> object:
        address = parse_pubkey(params[0] if params else None)
        config = self._config(params, 1)
        limit = config.number("limit")
        limit = _MAX_SIGNATURES if limit is None else limit
        if not 1 <= limit <= _MAX_SIGNATURES:
            raise invalid_params(f"Invalid limit; max {_MAX_SIGNATURES}")
        # What has run but is not on the disk yet must not be missing from an answer that comes after its effects.
        await self._chain.settled()
        rows = await self._chain.query(
            self._chain.journal.mentions, bytes(address), config.signature("before"), config.signature("until"), limit
        )
        return [
            {
                "signature": str(Signature(signature)),
                "slot": slot,
                "err": json.loads(meta)["err"],
                "memo": None,
                "blockTime": self._chain.slots.unix_time(slot),
                "confirmationStatus": "finalized",
            }
            for signature, slot, meta in rows
        ]

    async def _transaction(self, params: Params) -> object:
        signature = parse_signature(params[0] if params else None)
        if len(params) > 1 and isinstance(params[1], str):  # the legacy form: only an encoding
            params = [params[0], {"encoding": params[1]}]
        config = self._config(params, 1)
        encoding = config.choice("encoding", "json", TRANSACTION_ENCODINGS)
        await self._chain.settled()
        record = await self._chain.query(self._chain.journal.record, signature)
        if record is None:
            return None
        return {
            **transaction_json(record, encoding, config.number("maxSupportedTransactionVersion")),
            "slot": record.slot,
            "blockTime": self._chain.slots.unix_time(record.slot),
        }

    # -- transactions -----------------------------------------------------------------------------------------

    async def _send(self, params: Params) -> object:
        config = self._config(params, 1)
        config.choice("preflightCommitment", "finalized", _COMMITMENTS)
        config.number("maxRetries")
        text = _text(params, 0, "transaction")
        tx, raw = decode_transaction(text, config.choice("encoding", "base58", ("base58", "base64")))
        signature = await self._chain.submit(tx, raw, preflight=not config.flag("skipPreflight"))
        return str(Signature(signature))

    async def _simulate(self, params: Params) -> object:
        config = self._config(params, 1)
        text = _text(params, 0, "transaction")
        tx, _ = decode_transaction(text, config.choice("encoding", "base58", ("base58", "base64")))
        verify, replace = config.flag("sigVerify"), config.flag("replaceRecentBlockhash")
        if verify and replace:
            raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
        if verify and not all(tx.verify_with_results()):
            raise RpcError(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")
        refused = self._chain.precheck(tx)
        if refused == "BlockhashNotFound" and replace:
            refused = None
        simulation = self._chain.simulate(tx) if refused is None else Simulation(refused, [], 0, 0, None, [], {})
        value: dict[str, object] = {
            "err": simulation.err,
            "logs": simulation.logs,
            "accounts": self._simulated_accounts(config, simulation),
            "unitsConsumed": simulation.units,
            "returnData": simulation.return_data,
            "innerInstructions": simulation.inner if config.flag("innerInstructions") else None,
            "replacementBlockhash": None,
        }
        if replace:
            slot = self._chain.slot()
            value["replacementBlockhash"] = {
                "blockhash": _hash_text(self._chain.slots.blockhash(slot)),
                "lastValidBlockHeight": slot + MAX_PROCESSING_AGE,
            }
        return self._context(value)

    def _simulated_accounts(self, config: Config, simulation: Simulation) -> list[object] | None:
        if config.raw("accounts") is None:
            return None
        wanted = as_object(config.raw("accounts"))
        if wanted is None:
            raise invalid_params("invalid type: `accounts` is an object of `addresses` and `encoding`")
        encoding = Config([wanted], 0).choice("encoding", "base64", ("base64", "jsonParsed"))
        addresses = [parse_pubkey(a) for a in _list([wanted.get("addresses")], 0, "accounts.addresses", _MAX_ACCOUNTS)]
        if simulation.err is not None:
            return [None for _ in addresses]
        slot = self._chain.slot()
        found = [simulation.accounts.get(a) or self._chain.account(a, slot) for a in addresses]
        return [None if a is None or not a.lamports else account_json(a, encoding, None) for a in found]

    async def _airdrop(self, params: Params) -> object:
        self._config(params, 2)
        address = parse_pubkey(params[0] if params else None)
        lamports = natural(params[1] if len(params) > 1 else None, "lamports")
        if not lamports or lamports > self._airdrop_limit:
            raise RpcError(
                INTERNAL_ERROR, f"Internal error: the faucet gives 1 to {self._airdrop_limit} lamports a request"
            )
        return str(Signature(await self._chain.airdrop(address, lamports)))


def account_filter(filters: object) -> Callable[[Account], bool]:
    """A predicate for getProgramAccounts' `filters` (dataSize, memcmp); all of them must hold."""
    if filters is None:
        return lambda _: True
    given = as_array(filters)
    if given is None or len(given) > _MAX_FILTERS:
        raise invalid_params(f"Too many filters provided; max {_MAX_FILTERS}")
    checks = [_one_filter(f) for f in given]
    return lambda account: all(check(account) for check in checks)


def _one_filter(item: object) -> Callable[[Account], bool]:
    body = as_object(item) or {}
    if "dataSize" in body:
        size = natural(body["dataSize"], "dataSize")
        return lambda account: len(account.data) == size
    memcmp = as_object(body.get("memcmp"))
    if memcmp is None:
        raise invalid_params(f"unknown filter `{item}`, expected `dataSize` or `memcmp`")
    offset = natural(memcmp.get("offset"), "memcmp.offset")
    given, encoding = memcmp.get("bytes"), memcmp.get("encoding") or "base58"
    if (numbers := as_array(given)) is not None:
        try:
            pattern = bytes(natural(n, "memcmp.bytes") for n in numbers)
        except ValueError:
            raise invalid_params("`memcmp.bytes` is a list of bytes") from None
    elif isinstance(given, str) and isinstance(encoding, str):
        pattern = decode_bytes(given, encoding, 128)
    else:
        raise invalid_params("`memcmp.bytes` is a string in `memcmp.encoding`, or a list of bytes")
    if len(pattern) > 128:
        raise invalid_params("encoded binary should be less than 129 bytes")
    return lambda account: account.data[offset : offset + len(pattern)] == pattern


def _status_json(slot: int, err: object) -> dict[str, object]:
    return {
        "slot": slot,
        "confirmations": None,
        "err": err,
        "status": {"Ok": None} if err is None else {"Err": err},
        "confirmationStatus": "finalized",
    }


def _hash_text(blockhash: bytes) -> str:
    return str(Pubkey(blockhash))


def _text(params: Params, position: int, name: str) -> str:
    value = params[position] if len(params) > position else None
    if not isinstance(value, str):
        raise invalid_params(f"invalid type: `{name}` is a string")
    return value


def _list(params: Params, position: int, name: str, limit: int) -> list[object]:
    value = as_array(params[position] if len(params) > position else None)
    if value is None:
        raise invalid_params(f"invalid type: `{name}` is an array")
    if len(value) > limit:
        raise invalid_params(f"Too many inputs provided; max {limit}")
    return value


def _failure(identifier: object, error: RpcError) -> dict[str, object]:
    return {"jsonrpc": "2.0", "error": error.to_json(), "id": identifier}
