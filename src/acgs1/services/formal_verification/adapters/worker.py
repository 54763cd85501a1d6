"""A prover process: reads jobs from its standard input, writes results to its standard output.

Frames are a 4-byte big-endian length and that many bytes of JSON. Before each item it says which one it begins, so that its
parent knows what to blame when it hangs or dies. It keeps the caches of the last few schemas warm.
"""

import argparse
import ctypes
import gc
import json
import os
import resource
import signal
import struct
import sys
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from acgs1.core.errors import DomainError, ErrorItem

_KEPT_SESSIONS = 4


class _Session(Protocol):
    def plan(self) -> dict[str, Any]: ...
    def run(self, index: int) -> dict[str, Any]: ...


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame; None at the end of the stream."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    (length,) = struct.unpack(">I", header)
    return json.loads(stream.read(length))


def write_frame(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message, separators=(",", ":")).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


def main() -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--solver-timeout-ms", type=int, required=True)
    parser.add_argument("--second-opinion-ms", type=int, required=True)
    options = parser.parse_args()
    _confine(options.memory_mb)
    incoming = sys.stdin.buffer
    # Whatever a native library prints must not end up between frames.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(incoming, outgoing, options.solver_timeout_ms, options.second_opinion_ms)


def _confine(memory_mb: int) -> None:
    """A limit on private memory; death with the parent, also in the middle of a solve (prctl(2), PR_SET_PDEATHSIG)."""
    limit = memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _serve(incoming: BinaryIO, outgoing: BinaryIO, solver_timeout_ms: int, second_opinion_ms: int) -> None:
    # The heavy imports come after the limits.
    from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions

    # What was imported stays: the collector need not look through it in the middle of a job.
    gc.freeze()
    sessions = Sessions(solver_timeout_ms=solver_timeout_ms, second_opinion_ms=second_opinion_ms)
    opened: OrderedDict[str, _Session] = OrderedDict()
    while (message := read_frame(incoming)) is not None:
        match message["op"]:
            case "open":
                try:
                    session = sessions.open(message["kind"], message["input"])
                    plan = session.plan()
                except DomainError as error:
                    write_frame(outgoing, {"refused": _refusal(error)})
                    continue
                opened[message["job"]] = session
                while len(opened) > _KEPT_SESSIONS:
                    opened.popitem(last=False)
                write_frame(outgoing, {"plan": plan})
            case "run":
                session = opened.get(message["job"])
                if session is None:
                    write_frame(outgoing, {"unopened": True})
                    continue
                opened.move_to_end(message["job"])
                for index in message["items"]:
                    write_frame(outgoing, {"begin": index})
                    write_frame(
                        outgoing, {"done": index, "result": session.run(index), "defects": sessions.take_defects()}
                    )
                write_frame(outgoing, {"end": True, "memory_mb": _resident_mb()})
            case other:
                raise ValueError(f"`{other}` is no operation of a prover process")


def _refusal(error: DomainError) -> dict[str, Any]:
    items = [asdict(item) for item in error.items]
    return {"code": error.code, "detail": error.detail, "items": items}


def refusal(kinds: dict[str, type[DomainError]], message: dict[str, Any]) -> DomainError:
    """The error that a worker reported, as one of `kinds` by code."""
    items = tuple(ErrorItem(**item) for item in message["items"])
    return kinds[message["code"]](message["detail"], items=items)


def _resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // (1024 * 1024)


if __name__ == "__main__":
    main()
