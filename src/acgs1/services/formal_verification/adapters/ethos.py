"""Ethos, a proof checker that shares no code with the solver: run as a program, where one is installed."""

import asyncio
import resource
import tempfile
from contextlib import suppress
from pathlib import Path

from acgs1.contracts.formal_verification import ProofCheck
from acgs1.core.hashing import sha256_hex
from acgs1.services.formal_verification.adapters.kernel.checkable import UnfitProof, UnreadableScript, checker_input

_SECONDS = 120.0
_MEMORY = 4 * 1024 * 1024 * 1024


class CheckerUnusable(Exception):
    """There is no checker to run; the message says what is missing."""


class EthosChecker:
    """Checks CPC proofs with `program` against the rules in `signature` (`Cpc.eo` of cvc5's sources)."""

    def __init__(self, program: Path, signature: Path) -> None:
        """Raises CheckerUnusable."""
        for file in (program, signature):
            if not file.is_file():
                raise CheckerUnusable(f"`{file}` is not a file")
        self._program = program
        self._signature = signature
        # A build has no version that could be relied on, and a signature has none at all.
        self.name = f"ethos {_fingerprint(program)}, rules {_fingerprint(*sorted(signature.parent.rglob('*.eo')))}"

    async def check(self, script: str, proof: str) -> ProofCheck:
        """Whether `proof` shows that no model satisfies `script`. The problem is taken from `script`, not from the proof."""
        try:
            given = checker_input(script, proof)
        except (UnfitProof, UnreadableScript) as error:
            return self._says("failed", str(error))
        with tempfile.TemporaryDirectory(prefix="acgs-proof-") as folder:
            file = Path(folder) / "proof.eo"
            file.write_text(given)
            return await self._run(file)

    async def _run(self, file: Path) -> ProofCheck:
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                f"--include={self._signature}",
                file,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
            )
        except OSError as error:
            return self._says("incomplete", f"`{self._program}` cannot be run: {error.strerror}")
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        try:
            async with asyncio.timeout(_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            return self._says("incomplete", f"no answer within {_SECONDS:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        answer = out.decode(errors="replace").strip()
        if process.returncode == 0 and answer in {"correct", "incomplete"}:
            return self._says("correct") if answer == "correct" else self._says("incomplete", "it trusts a step")
        words = (err.decode(errors="replace") + answer).strip()
        return self._says("failed", words[-500:] or f"status {process.returncode}")

    def _says(self, result: str, detail: str | None = None) -> ProofCheck:
        return ProofCheck.model_validate({"checker": self.name, "result": result, "detail": detail})


def _fingerprint(*files: Path) -> str:
    return sha256_hex(b"\n".join(sha256_hex(file.read_bytes()).encode() for file in files))[:12]
