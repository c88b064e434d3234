#!/usr/bin/env bash
# Makes each of the first 60 calls of every Vulkan function that arcsm needs fail, once and from then on, as a lost
# device and as memory that is short, while it trains, draws and evaluates; prints how that ends. That is thousands of
# runs: half an hour on two free cores.
# The layer that fails stands in the folder ARCSM_FAULT_LAYER (fi.c, fi.json); it needs gcc and libvulkan-dev.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
export ARCSM_REQUIRE_GPU=1 ARCSM_FAULT_STRIDE="${ARCSM_FAULT_STRIDE:-1}"
exec cargo test --release --test cli drivers:: -- --nocapture
