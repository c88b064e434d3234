#!/usr/bin/env bash
# Makes each of the first 60 calls of 20 Vulkan functions fail, once and from then on, as a lost device and as memory that is
# short, while arcsm trains, draws and evaluates; prints how that ends. Takes about an hour on two cores.
# The layer that fails stands in ARCSM_FAULT_LAYER (fi.c, fi.json); it needs gcc and libvulkan-dev.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
export ARCSM_REQUIRE_GPU=1 ARCSM_FAULT_STRIDE="${ARCSM_FAULT_STRIDE:-1}"
exec cargo test --release --test cli drivers:: -- --nocapture
