#!/usr/bin/env bash
# Make the environment in .venv from a hash-pinned lock: with uv where it is present, else with venv and pip.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1
python=${PYTHON:-python3}
wheel=$(echo native/dist/acgs1_kernel-*-abi3-*x86_64.whl)

say() { printf '\033[1m%s\033[0m\n' "$*"; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "ACGS-1 needs Python 3.11 or newer; \`$python\` is $("$python" --version 2>&1). Set PYTHON=python3.11 (or newer)." >&2
  exit 1
}
if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "The shipped kernel is built for Linux x86_64; this is $(uname -sm). Build it from source first: make kernel (needs Rust)." >&2
  exit 1
fi
(cd native/dist && sha256sum --quiet --check SHA256SUMS) || {
  echo "native/dist does not have the hash that SHA256SUMS names; restore it from the repository." >&2
  exit 1
}
started=$SECONDS
if command -v uv >/dev/null; then
  say "[1/3] environment (uv)"
  [ -x .venv/bin/python ] || uv venv --quiet --python "$python" .venv
  # Compiled once here, as pip does, rather than at every start of an environment that writes no bytecode.
  install() { VIRTUAL_ENV=.venv uv pip install --compile-bytecode "$@"; }
else
  say "[1/3] environment (venv and pip)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv || {
    echo "Python's venv module is missing: apt-get install python3-venv" >&2
    exit 1
  }
  install() { .venv/bin/python -m pip install --disable-pip-version-check --progress-bar on "$@"; }
fi
say "[2/3] dependencies from $lock, each checked against its hash"
install --require-hashes -r "$lock"
say "[3/3] the kernel and ACGS-1 itself"
install --no-deps --force-reinstall "$wheel"
install --no-deps --no-build-isolation --editable .
say "installed in $((SECONDS - started)) s"
