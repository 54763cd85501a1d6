"""Writes the build record of the program: what was built, its hash, and with which tools. Standard library only."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()


def _debian_version(package: str) -> str:
    return _first_line("dpkg-query", "-W", "-f=${Version}\n", package)


def build_record(program: Path, idl: Path, linker: str) -> dict[str, object]:
    """What identifies a build: equal records mean equal bytes."""
    lock = tomllib.loads(Path("Cargo.lock").read_text())
    rustc = subprocess.run(["/usr/bin/rustc", "-Vv"], capture_output=True, text=True, check=True).stdout
    llvm = re.search(r"^LLVM version: (\S+)$", rustc, re.MULTILINE)
    address = json.loads(idl.read_text())["address"]
    return {
        "name": program.stem,
        "default_address": address,
        "sbpf_version": "v0",
        "program_sha256": hashlib.sha256(program.read_bytes()).hexdigest(),
        "program_bytes": program.stat().st_size,
        "idl_sha256": hashlib.sha256(idl.read_bytes()).hexdigest(),
        "tools": {
            "rustc": rustc.splitlines()[0],
            "llvm": llvm[1] if llvm else "unknown",
            "rustc-web (Debian)": _debian_version("rustc-web"),
            "rust-web-src (Debian)": _debian_version("rust-web-src"),
            "sbpf-linker": _first_line(linker, "--version"),
        },
        "crates": {
            package["name"]: package["version"]
            for package in lock["package"]
            if package["name"].startswith(("pinocchio", "solana-"))
        },
    }


if __name__ == "__main__":
    record = build_record(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    print(json.dumps(record, indent=2))
