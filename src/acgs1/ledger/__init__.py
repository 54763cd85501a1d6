"""The ledger: the client of the governance program, and (in `node`) an embedded Solana node to run it on.

`LedgerClient` is in `acgs1.ledger.client`; nothing is imported here, so that the offline check of an anchored root
(`acgs1.ledger.anchor_proof`) needs no more than it uses.
"""
