#!/bin/sh
# Format and lints of the Rust sources; warnings are errors. `unwrap`, `expect`, `panic!`, indexing and an unsafe block without a
# reason are denied in Cargo.toml.
set -eu
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/clippy"
cargo fmt --check
cargo clippy --locked --release --quiet -- -D warnings
