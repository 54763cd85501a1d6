#!/bin/bash
# Builds quantumagi_core for SBF (v0) and its IDL from source.
#
#   build.sh            builds into target/deploy and copies program, IDL and build record into the Python package
#   build.sh --check    builds in a directory of its own and fails when the bytes differ from the shipped ones
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
SHIPPED=$HERE/../src/acgs1/ledger/artifacts
LINKER=${SBPF_LINKER:-${ACGS_SBF_ROOT:-$HOME/.local/sbf}/bin/sbpf-linker}
NAME=quantumagi_core
TARGET=$HERE/target
MODE=${1:-build}
SCRATCH=
trap '[ -z "$SCRATCH" ] || rm -rf "$SCRATCH"' EXIT
case $MODE in
build) ;;
--check)
  SCRATCH=$(mktemp -d)
  # Another path on purpose: a build that depends on where it stands would show here.
  cp -r "$HERE/Cargo.toml" "$HERE/Cargo.lock" "$HERE/programs" "$SCRATCH/"
  cp "$HERE/build_record.py" "$HERE/Anchor.toml" "$SCRATCH/"
  TARGET=$SCRATCH/target
  ;;
*) echo "build.sh: unknown argument \`$MODE\`; it takes none or --check" >&2; exit 2 ;;
esac
[ -x "$LINKER" ] || { echo "build.sh: no sbpf-linker at \`$LINKER\`; run setup.sh or set SBPF_LINKER" >&2; exit 1; }
cd "${SCRATCH:-$HERE}"

# A failed link would leave the old file in place.
rm -f "$TARGET/bpfel-unknown-none/release/$NAME.so" "$TARGET/bpfel-unknown-none/release/lib$NAME.so"
FLAGS=(-C panic=abort -C relocation-model=static -C target-cpu=v2
  -C target-feature=+allows-misaligned-mem-access
  -C link-arg=--arch=v0
  -C link-arg=--llvm-args=-bpf-stack-size=4096
  -C link-arg=--disable-math-builtins)
RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
  CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER=$LINKER \
  CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS="${FLAGS[*]}" \
  cargo build --quiet --release --locked --features sbpf-linker --target bpfel-unknown-none --target-dir "$TARGET" \
  -Zbuild-std=core,alloc -p $NAME --lib
mkdir -p "$TARGET/deploy" "$TARGET/idl"
find "$TARGET/bpfel-unknown-none/release" -maxdepth 1 -name "*$NAME.so" -exec cp {} "$TARGET/deploy/$NAME.so" \;

# The IDL comes from a test of the crate, which is where the Anchor CLI looks for it as well.
cargo test --quiet --locked --features idl-build --target-dir "$TARGET" -p $NAME --lib \
  __anchor_private_print_idl -- --nocapture |
  sed -n '/^--- IDL begin program ---$/,/^--- IDL end program ---$/p' | sed '1d;$d' >"$TARGET/idl/$NAME.json"
python3 build_record.py "$TARGET/deploy/$NAME.so" "$TARGET/idl/$NAME.json" "$LINKER" >"$TARGET/deploy/$NAME.build.json"

(cd "$TARGET/deploy" && sha256sum "$NAME.so" >"$NAME.so.sha256")
FILES=("$TARGET/deploy/$NAME.so" "$TARGET/deploy/$NAME.so.sha256" "$TARGET/idl/$NAME.json" "$TARGET/deploy/$NAME.build.json")
if [ "$MODE" = --check ]; then
  status=0
  for file in "${FILES[@]}"; do
    cmp "$file" "$SHIPPED/$(basename "$file")" || status=1
  done
  [ $status = 0 ] && echo "build.sh: the shipped program, IDL and build record are what this source builds" ||
    echo "build.sh: the shipped files are not what this source builds; run blockchain/build.sh and commit them" >&2
  exit $status
fi
mkdir -p "$SHIPPED"
cp "${FILES[@]}" "$SHIPPED/"
(cd "$SHIPPED" && ls -l && sha256sum $NAME.so)
