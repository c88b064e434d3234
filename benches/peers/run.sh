#!/usr/bin/env bash
# Builds arcsm and its peers, checks that all are the same model, times them in turn and prints one table with the ratios.
# Flags are those of compare.py: --help lists them. PEERS_DIR is where PyTorch and Burn's build go (7 GB).
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")"
peers=$PWD
root=$(cd ../.. && pwd)
work=${PEERS_DIR:-$root/target/peers}
golden=$root/assets/golden
source "$root/scripts/setup.sh"

# Messages go to standard error: standard output is the table alone.
say() { echo "peers: $*" >&2; }

wants() { [[ " $arguments " != *" --without $1 "* && " $arguments " != *" --without=$1 "* ]]; }
arguments="$*"

if [[ " $arguments " == *" --help "* || " $arguments " == *" -h "* ]]; then
    exec python3 compare.py --help
fi

mkdir -p "$work"
say "building arcsm"
(cd "$root" && cargo build --release --quiet --bin arcsm --bin arcsm-bench)
programs=${CARGO_TARGET_DIR:-$root/target}/release

if wants pytorch; then
    if ! "$work/venv/bin/python" -c "import numpy, safetensors, torch" 2>/dev/null; then
        say "installing PyTorch in $work/venv (requirements.txt)"
        python3 -m venv "$work/venv"
        "$work/venv/bin/pip" install --quiet -r pytorch/requirements.txt >&2
    fi
    say "is PyTorch's model ours?"
    (cd pytorch && "$work/venv/bin/python" check.py "$golden" "$programs/arcsm") >&2
    say "does a slice of the dimensions predict the whole?"
    (cd pytorch && "$work/venv/bin/python" bench.py verify-slice) >&2
fi

if wants burn; then
    say "building Burn's model in $work/burn (the first time: 230 crates, a quarter of an hour on two idle cores)"
    nice cargo build --release --locked --quiet --manifest-path burn/Cargo.toml --target-dir "$work/burn"
    say "is Burn's model ours?"
    "$work/burn/release/arcsm-peer-burn" check "$golden" >&2
fi

cd "$called_from"
exec python3 "$peers/compare.py" --arcsm-bench "$programs/arcsm-bench" --python "$work/venv/bin/python" \
    --burn "$work/burn/release/arcsm-peer-burn" "$@"
