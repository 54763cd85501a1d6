#!/bin/bash
# Installs what build.sh needs, on Debian 12 as root. Idempotent. The default Rust toolchain is not touched.
# Any cargo of 1.85 or newer drives the build.
set -euo pipefail
ROOT=${ACGS_SBF_ROOT:-$HOME/.local/sbf}
LINKER_VERSION=0.2.6

if ! /usr/bin/rustc -Vv 2>/dev/null | grep -q '^LLVM version: 22' || ! dpkg -s rust-web-src llvm-22-dev >/dev/null 2>&1; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rustc-web rust-web-src llvm-22-dev
fi
# The linker has to read this compiler's bitcode; LLVM 23 links it and the program then crashes.
/usr/bin/rustc -Vv | grep -q '^LLVM version: 22' || { echo "setup.sh: /usr/bin/rustc has another LLVM than 22" >&2; exit 1; }

if ! "$ROOT/bin/sbpf-linker" --version 2>/dev/null | grep -q "$LINKER_VERSION"; then
  LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 PATH=/usr/lib/llvm-22/bin:$PATH \
    cargo install sbpf-linker --version "$LINKER_VERSION" --locked --no-default-features \
    --features bpf-linker/llvm-22 --root "$ROOT"
fi
"$ROOT/bin/sbpf-linker" --version
