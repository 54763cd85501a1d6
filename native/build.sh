#!/bin/sh
# Rebuilds the kernel's wheel into dist/ and writes dist/SHA256SUMS and dist/BUILD.json. The wheel is abi3 (Python 3.11 and later)
# for manylinux2014 on the machine's architecture.
#
# Needs: cargo, and a Python with maturin >=1.9,<2 and ziglang. If $MATURIN_PYTHON is not set, a private environment with both is made
# under target/. Usage: native/build.sh
set -eu
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

command -v cargo >/dev/null 2>&1 || {
    echo "error: cargo is not on PATH; the kernel builds from source with Rust 1.89 or later (https://rustup.rs)" >&2
    exit 1
}
python="${MATURIN_PYTHON:-}"
if [ -z "$python" ]; then
    python="$CARGO_TARGET_DIR/tools/bin/python"
    if ! "$python" -c 'import maturin, ziglang' 2>/dev/null; then
        "${PYTHON:-python3}" -m venv "$CARGO_TARGET_DIR/tools"
        "$python" -m pip install --quiet 'maturin>=1.9,<2' 'ziglang>=0.15,<0.18'
    fi
fi
# maturin finds zig as `python -m ziglang` of the interpreter on PATH.
bin=$(dirname "$python")
PATH="$bin:$PATH"
export PATH

# Panic messages carry source paths, generated sources' too; those of the building machine do not belong in a wheel.
# The last prefix that matches wins, and the target directory may lie within this one.
RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/native \
--remap-path-prefix=$CARGO_TARGET_DIR=/target"
export RUSTFLAGS

wheels="$CARGO_TARGET_DIR/wheels"
rm -rf "$wheels"
"$python" -m maturin build --locked --release --zig --compatibility manylinux2014 -i "$python" -o "$wheels"

mkdir -p dist
rm -f dist/*.whl
cp "$wheels"/*.whl dist/
(cd dist && sha256sum ./*.whl | sed 's# \./# #' >SHA256SUMS)
"$python" - <<'PY'
import json, pathlib, re, subprocess, sys

sys.path.insert(0, ".")
import source_hash

def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

lock = pathlib.Path("Cargo.lock").read_text()

def locked(name: str) -> str:
    found = re.search(rf'name = "{name}"\nversion = "([^"]+)"', lock)
    if found is None:
        raise SystemExit(f"error: Cargo.lock has no `{name}`")
    return found.group(1)

(wheel,) = pathlib.Path("dist").glob("*.whl")
build = {
    "wheel": wheel.name,
    "source_sha256": source_hash.source_sha256(),
    "rustc": said("rustc", "--version"),
    "maturin": said(sys.executable, "-m", "maturin", "--version"),
    "zig": said(sys.executable, "-m", "ziglang", "version"),
    "cedar-policy": locked("cedar-policy"),
    "cedar-policy-symcc": locked("cedar-policy-symcc"),
    "pyo3": locked("pyo3"),
}
pathlib.Path("dist/BUILD.json").write_text(json.dumps(build, indent=2) + "\n")
print(json.dumps(build, indent=2))
PY
