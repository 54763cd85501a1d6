"""`python -m acgs1.ledger.node --port 8899 --data-dir DIR`"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from acgs1.ledger.node.server import serve
from acgs1.ledger.node.settings import NodeSettings


def main() -> int:
    defaults = NodeSettings.from_env()
    parser = argparse.ArgumentParser(
        prog="python -m acgs1.ledger.node", description="An embedded Solana JSON-RPC node."
    )
    parser.add_argument("--host", default=defaults.host)
    parser.add_argument("--port", type=int, help=f"JSON-RPC and WebSocket (default {defaults.port})")
    parser.add_argument("--pubsub-port", type=int, help="second WebSocket port (default: port + 1; 0: none)")
    parser.add_argument("--data-dir", type=Path, default=defaults.data_dir)
    options = parser.parse_args()
    port = defaults.port if options.port is None else options.port
    if options.pubsub_port is not None:
        pubsub = options.pubsub_port or None
    else:
        pubsub = defaults.pubsub_port if options.port is None else (port + 1 if port else None)
    return serve(replace(defaults, host=options.host, port=port, pubsub_port=pubsub, data_dir=options.data_dir))


if __name__ == "__main__":
    sys.exit(main())
