"""A Solana JSON-RPC node over an embedded virtual machine, durable on one SQLite file.

`create_app` is in `acgs1.ledger.node.app`, `serve` in `acgs1.ledger.node.server`, `NodeSettings` in
`acgs1.ledger.node.settings`; nothing is imported here, so that reading the settings does not load the machine.
"""
