#!/usr/bin/env bash
# Builds arcsm and runs its demo: learn digits, draw new ones. Flags are those of `arcsm demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
exec cargo run --release --quiet --bin arcsm -- demo "$@"
