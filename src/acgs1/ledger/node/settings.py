"""What a node is told when it starts.

A frozen dataclass rather than pydantic-settings: the node is the one process that carries the Solana virtual
machine, and its memory budget has no room for a validation library that would read seven strings.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Settings of one node. `from_env` reads `ACGS_LEDGER_*`, `ACGS_HOME`, `ACGS_PORT_OFFSET` and `ALLOWED_ORIGINS`."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8899
    # web3.js derives the WebSocket port as HTTP port + 1; None leaves that port alone.
    pubsub_port: int | None = 8900
    allowed_origins: tuple[str, ...] = ("http://localhost:3000",)
    # Transactions between two snapshots of the accounts: bounds how much a restart replays.
    snapshot_every: int = 2000
    # Lamports that one requestAirdrop may ask for; 0 closes the faucet.
    airdrop_limit: int = 1_000_000_000_000

    @property
    def database(self) -> Path:
        return self.data_dir / "ledger.sqlite3"

    @staticmethod
    def from_env(env: Mapping[str, str] | None = None) -> "NodeSettings":
        """Settings from the environment. Raises ValueError naming the variable that cannot be read."""
        env = os.environ if env is None else env
        home = Path(env.get("ACGS_HOME") or Path.home() / ".local/share/acgs")
        port = _integer(env, "ACGS_LEDGER_PORT", 8899 + _integer(env, "ACGS_PORT_OFFSET", 0))
        origins = tuple(o.strip() for o in env.get("ALLOWED_ORIGINS", "http://localhost:3000").split(",") if o.strip())
        return NodeSettings(
            data_dir=Path(env.get("ACGS_LEDGER_DATA_DIR") or home / "ledger"),
            host=env.get("ACGS_LEDGER_HOST", "127.0.0.1"),
            port=port,
            pubsub_port=_integer(env, "ACGS_LEDGER_PUBSUB_PORT", port + 1) or None,
            allowed_origins=origins,
            airdrop_limit=_integer(env, "ACGS_LEDGER_AIRDROP_LIMIT", 1_000_000_000_000),
        )


def _integer(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise ValueError(f"{name}: expected a whole number of at least 0, got `{text}`")
    return value
