"""Accounts and transactions as Solana's JSON."""

import base64
import json
from typing import Any, Final, cast

from solders.account import Account
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import SanitizeError, VersionedTransaction

from acgs1.ledger.base58 import b58decode, b58encode
from acgs1.ledger.json_values import as_object, as_strings
from acgs1.ledger.node.errors import (
    INVALID_REQUEST,
    UNSUPPORTED_TRANSACTION_VERSION,
    RpcError,
    invalid_params,
)
from acgs1.ledger.node.journal import Record
from acgs1.ledger.node.machine import is_writable, message_version

ACCOUNT_ENCODINGS: Final = ("binary", "base58", "base64", "jsonParsed")
TRANSACTION_ENCODINGS: Final = ("json", "jsonParsed", "base58", "base64")
_MAX_BASE58_ACCOUNT: Final = 128
# A transaction fits one IPv6 packet: 1280 bytes less headers (solana-packet).
PACKET_SIZE: Final = 1232


def account_json(account: Account, encoding: str, data_slice: tuple[int, int] | None) -> dict[str, object]:
    """`UiAccount`. `jsonParsed` answers base64, as Solana does for a program whose data it cannot parse."""
    data = account.data
    space = len(data)
    if data_slice is not None:
        offset, length = data_slice
        data = data[offset : offset + length]
    encoded: object
    if encoding in ("binary", "base58"):
        if len(data) > _MAX_BASE58_ACCOUNT:
            raise RpcError(
                INVALID_REQUEST,
                "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.",
            )
        text = b58encode(data)
        encoded = text if encoding == "binary" else [text, "base58"]
    else:
        encoded = [base64.b64encode(data).decode(), "base64"]
    return {
        "data": encoded,
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": str(account.owner),
        "rentEpoch": account.rent_epoch,
        "space": space,
    }


def decode_transaction(text: str, encoding: str) -> tuple[VersionedTransaction, bytes]:
    """The transaction in `text` and its bytes. Raises RpcError (invalid params) where it is none."""
    raw = decode_bytes(text, encoding, PACKET_SIZE)
    try:
        tx = VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise invalid_params(
            f"failed to deserialize solana_transaction::versioned::VersionedTransaction: {error}"
        ) from None
    # from_bytes reads a prefix; bytes behind the transaction would be stored and hashed without meaning anything.
    if bytes(tx) != raw:
        raise invalid_params(
            "failed to deserialize solana_transaction::versioned::VersionedTransaction: trailing bytes"
        )
    try:
        tx.sanitize()
    except SanitizeError as error:
        raise invalid_params(f"invalid transaction: {error}") from None
    return tx, raw


def decode_bytes(text: str, encoding: str, limit: int) -> bytes:
    if encoding not in ("base58", "base64"):
        raise invalid_params(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    if len(text) > (limit * 138 // 100 + 1 if encoding == "base58" else (limit + 2) // 3 * 4):
        raise invalid_params(f"{encoding} encoded data too large: {len(text)} characters (max: raw {limit} bytes)")
    try:
        raw = b58decode(text) if encoding == "base58" else base64.b64decode(text, validate=True)
    except ValueError as error:
        raise invalid_params(f"invalid {encoding} encoding: {error}") from None
    if len(raw) > limit:
        raise invalid_params(f"decoded data too large: {len(raw)} bytes (max: {limit} bytes)")
    return raw


def transaction_json(record: Record, encoding: str, max_version: int | None) -> dict[str, object]:
    """`EncodedTransactionWithStatusMeta` of a record. Raises RpcError -32015 for a version the client did not ask for."""
    tx = VersionedTransaction.from_bytes(record.raw)
    version = message_version(tx)
    if version is not None and (max_version is None or version > max_version):
        raise RpcError(
            UNSUPPORTED_TRANSACTION_VERSION,
            f"Transaction version ({version}) is not supported by the requesting client. Please try the request again with"
            f' the following configuration parameter: "maxSupportedTransactionVersion": {version}',
        )
    meta: dict[str, object] = json.loads(record.meta)
    body: dict[str, object] = {"meta": meta}
    if encoding == "base64":
        body["transaction"] = [base64.b64encode(record.raw).decode(), "base64"]
    elif encoding == "base58":
        body["transaction"] = [b58encode(record.raw), "base58"]
    elif encoding == "json":
        body["transaction"] = _json_transaction(tx)
    else:
        body["transaction"] = _parsed_transaction(tx, meta)
    if max_version is not None:
        body["version"] = "legacy" if version is None else version
    return body


def _json_transaction(tx: VersionedTransaction) -> dict[str, object]:
    message = tx.message
    header = message.header
    body: dict[str, object] = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(k) for k in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            {
                "programIdIndex": i.program_id_index,
                "accounts": list(i.accounts),
                "data": b58encode(bytes(i.data)),
                "stackHeight": 1,
            }
            for i in message.instructions
        ],
    }
    if not isinstance(message, Message):
        body["addressTableLookups"] = _lookups(tx)
    return {"signatures": [str(s) for s in tx.signatures], "message": body}


def _lookups(tx: VersionedTransaction) -> list[dict[str, object]]:
    if not isinstance(tx.message, MessageV0):
        return []
    return [
        {
            "accountKey": str(lookup.account_key),
            "writableIndexes": list(lookup.writable_indexes),
            "readonlyIndexes": list(lookup.readonly_indexes),
        }
        for lookup in tx.message.address_table_lookups
    ]


def _parsed_transaction(tx: VersionedTransaction, meta: dict[str, object]) -> dict[str, object]:
    """The `jsonParsed` form with every instruction partially decoded, as Solana gives for programs it cannot parse."""
    message = tx.message
    signers = message.header.num_required_signatures
    keys = [
        _key_json(str(k), signer=i < signers, source="transaction", writable=is_writable(tx, i))
        for i, k in enumerate(message.account_keys)
    ]
    loaded = as_object(meta.pop("loadedAddresses", None)) or {}
    for group in ("writable", "readonly"):
        writable = group == "writable"
        keys += [
            _key_json(k, signer=False, source="lookupTable", writable=writable) for k in as_strings(loaded.get(group))
        ]
    addresses = [key["pubkey"] for key in keys]

    def partial(program: int, accounts: bytes | list[int], data: str, height: object) -> dict[str, object]:
        return {
            "programId": addresses[program],
            "accounts": [addresses[a] for a in accounts],
            "data": data,
            "stackHeight": height,
        }

    # What the node itself has written (`Machine.execute`), so its shape is known.
    for called in cast("list[dict[str, list[dict[str, Any]]]]", meta.get("innerInstructions") or []):
        called["instructions"] = [
            partial(i["programIdIndex"], i["accounts"], i["data"], i["stackHeight"]) for i in called["instructions"]
        ]
    body: dict[str, object] = {
        "accountKeys": keys,
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            partial(i.program_id_index, i.accounts, b58encode(bytes(i.data)), 1) for i in message.instructions
        ],
    }
    if not isinstance(message, Message):
        body["addressTableLookups"] = _lookups(tx)
    return {"signatures": [str(s) for s in tx.signatures], "message": body}


def _key_json(address: str, *, signer: bool, source: str, writable: bool) -> dict[str, object]:
    return {"pubkey": address, "signer": signer, "source": source, "writable": writable}


def parse_pubkey(text: object) -> Pubkey:
    if not isinstance(text, str):
        raise invalid_params(f"invalid type: expected a base58 address, got `{text}`")
    try:
        return Pubkey.from_string(text)
    except ValueError:
        raise invalid_params(f"Invalid param: `{text[:64]}` is not an address of 32 bytes in base58") from None
