#!/usr/bin/env bash
# Resolve pyproject.toml into the two locks: exact versions with hashes, for every platform, without any index address.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "locking needs uv: pip install uv" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# The kernel is installed from native/dist, not from an index.
grep -v '^  "acgs1_kernel",$' pyproject.toml >"$scratch/pyproject.toml"
flags=(--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet)
uv pip compile "${flags[@]}" "$scratch/pyproject.toml" --group "$scratch/pyproject.toml:build" -o requirements.lock
uv pip compile "${flags[@]}" "$scratch/pyproject.toml" --group "$scratch/pyproject.toml:build" --group "$scratch/pyproject.toml:dev" \
  -c requirements.lock -o requirements-dev.lock
