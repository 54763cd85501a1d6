"""The hash over the kernel's sources: which source a built wheel is of.

SHA-256 over one line per file, sorted by path: `path NUL sha256-hex LF`, for Cargo.toml, Cargo.lock, build.rs,
pyproject.toml, src/**/*.rs and python/**/{*.py,*.pyi,py.typed}. `build.rs` embeds the same figure in the extension
(`acgs1_kernel.SOURCE_SHA256`), `build.sh` writes it to dist/BUILD.json.

Usage: python source_hash.py [--check]   (--check: compare with dist/BUILD.json and dist/SHA256SUMS, status 1 on a difference)
"""

import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SINGLE = ("Cargo.toml", "Cargo.lock", "build.rs", "pyproject.toml")


def files(root: Path = ROOT) -> list[Path]:
    found = [root / name for name in SINGLE]
    found += (root / "src").rglob("*.rs")
    found += [p for p in (root / "python").rglob("*") if p.suffix in {".py", ".pyi"} or p.name == "py.typed"]
    return sorted(found, key=lambda p: p.relative_to(root).as_posix())


def source_sha256(root: Path = ROOT) -> str:
    total = hashlib.sha256()
    for path in files(root):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + digest.encode() + b"\n")
    return total.hexdigest()


def problems(root: Path = ROOT) -> list[str]:
    """What keeps the shipped wheel from being the one of these sources; empty when nothing does."""
    dist = root / "dist"
    found: list[str] = []
    build = json.loads((dist / "BUILD.json").read_text())
    actual = source_sha256(root)
    if build["source_sha256"] != actual:
        found.append(f"dist/BUILD.json says source `{build['source_sha256']}`, the sources hash to `{actual}`")
    for line in (dist / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split(maxsplit=1)
        wheel = dist / name.lstrip("*")
        if not wheel.is_file():
            found.append(f"dist/SHA256SUMS names `{wheel.name}`, which is not there")
        elif hashlib.sha256(wheel.read_bytes()).hexdigest() != expected:
            found.append(f"`{wheel.name}` does not have the hash in dist/SHA256SUMS")
    return found


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        bad = problems()
        for line in bad:
            print(f"error: {line}; run native/build.sh", file=sys.stderr)
        sys.exit(1 if bad else 0)
    print(source_sha256())
