#!/usr/bin/env bash
# Kills a training at moments in no order and goes on with it, and starts two trainings in one folder in ten ways: every
# checkpoint has to be readable, every line of the metrics there once, nothing left over, one training refused.
#   scripts/kills.sh [KILLS]    (default: 500; four minutes)
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
export ARCSM_REQUIRE_GPU=1 ARCSM_KILLS="${1:-500}"
exec cargo test --release --test cli kills:: -- --nocapture
