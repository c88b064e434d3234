#!/usr/bin/env bash
# Everything that has to hold: format, lints, tests, documentation. Without an adapter, tests that need one say so.
set -euo pipefail
cd "$(dirname "$0")/.."
if source scripts/setup.sh; then
    # With a driver there, a test that finds no adapter is a failure and no reason to skip.
    export ARCSM_REQUIRE_GPU=1
else
    echo "test: going on without an adapter; tests that need one will be skipped" >&2
    command -v cargo >/dev/null
fi

cargo fmt --check
cargo clippy --release --all-targets -- -D warnings
cargo test --release
RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps
