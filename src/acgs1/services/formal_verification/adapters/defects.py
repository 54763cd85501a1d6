"""Provers that contradict one another, or the evaluator: kept, counted, and said until somebody has looked."""

import json
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from acgs1.core.hashing import sha256_hex
from acgs1.kit.home import write_private
from acgs1.services.formal_verification.adapters.pool import log_defect
from acgs1.services.formal_verification.errors import ProverDefect

DEFECTS = Counter("acgs_prover_defects", "Contradictions between provers, or with the evaluator", ["defect"])


class Defects:
    """Reproducers in `folder`. While there is one, the service reports itself degraded: take it away to say that it is known."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, defect: dict[str, Any]) -> None:
        """Stores what reproduces a defect under its hash, and says so."""
        data = json.dumps(defect, sort_keys=True, indent=1).encode()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        file = self._folder / f"{sha256_hex(data)}.json"
        write_private(file, data)
        DEFECTS.labels(defect["defect"]).inc()
        log_defect({**defect, "file": file.name})

    async def check(self) -> None:
        """Raises ProverDefect while there are reproducers."""
        # One look into a small folder.
        kept = len(list(self._folder.glob("*.json"))) if self._folder.is_dir() else 0
        if kept:
            raise ProverDefect(f"{kept} contradictions of provers in `{self._folder}`")
