#!/usr/bin/env bash
# Mutated files to every parser, for as long as you like; inputs with faults are kept.
#   scripts/fuzz.sh [SECONDS [TARGETS]]           on stable Rust, one core (default: 3600 s, all targets)
#   scripts/fuzz.sh guided [SECONDS [TARGETS]]    by cargo-fuzz, SECONDS for each target (default: 600 s)
# TARGETS are names with commas between them: checkpoint,weights,... (fuzz/targets.rs has all of them).
# ARCSM_FUZZ_SEED=N repeats the executions of seed N; without it, the time of the day is the seed.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
export ARCSM_FUZZ_FINDINGS=${ARCSM_FUZZ_FINDINGS:-$here/fuzz/artifacts}
test='no_parser_panics_hangs_or_takes_memory_without_bound'

if [ "${1:-}" != guided ]; then
    export ARCSM_FUZZ_SECONDS=${1:-3600} ARCSM_FUZZ_SEED=${ARCSM_FUZZ_SEED:-$(date +%s)}
    if [ -n "${2:-}" ]; then export ARCSM_FUZZ_TARGETS=$2; fi
    exec cargo test --release --test fuzz -- --nocapture "$test"
fi

if ! command -v cargo-fuzz >/dev/null; then
    echo "fuzz: guided fuzzing needs cargo-fuzz: cargo install cargo-fuzz" >&2
    exit 2
fi
seconds=${2:-600}
targets=${3:-$(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' fuzz/Cargo.toml | paste -sd,)}
ARCSM_FUZZ_SEEDS=$here/fuzz/corpus cargo test --release --test fuzz -- "$test"
failed=0
for target in ${targets//,/ }; do
    # Without a sanitizer: there is no unsafe code to watch, and a stable compiler will do.
    limits="-max_total_time=$seconds -timeout=5 -rss_limit_mb=1024 -max_len=65536"
    cargo fuzz run --sanitizer none "$target" -- $limits || failed=1
done
exit "$failed"
