#!/usr/bin/env bash
# Many tiny training steps in one process: its memory and its open files must not grow with them.
#   scripts/soak.sh [STEPS]    (default: 300000)
# Prints resident memory and descriptors over time and the slope of the former over the last three quarters; fails when
# that is beyond what the scatter explains and comes to more than 8 MiB in a million steps, or when descriptors grow.
# SOAK_FLAGS are added to the training's.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-300000}
command -v cargo >/dev/null || source scripts/setup.sh
cargo build --release --quiet --bin arcsm
program=${CARGO_TARGET_DIR:-target}/release/arcsm
work=$(mktemp -d)
training=
trap '[ -z "$training" ] || kill "$training" 2>/dev/null || true; rm -rf "$work"' EXIT

# Held-out losses, checkpoints and pictures are all part of the day.
"$program" train --data toy:moons --hidden 8 --score-hidden 8 --context 2 --batch 8 --steps "$steps" --patience 0 \
    --validate-every 500 --checkpoint-every 1000 --sample-every 2500 --out "$work/run" --json \
    ${SOAK_FLAGS:-} >"$work/report" 2>"$work/log" &
training=$!
done_steps() { tail -n 1 "$work/run/metrics.jsonl" 2>/dev/null | sed -n 's/.*"step":\([0-9]*\).*/\1/p'; }

printf '%10s %10s %12s %12s\n' seconds step 'resident KiB' descriptors
while kill -0 "$training" 2>/dev/null; do
    memory=$(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$training/status" 2>/dev/null || true)
    open=$(ls "/proc/$training/fd" 2>/dev/null | wc -l || true)
    step=$(done_steps || true)
    if [ -n "$memory" ] && [ -n "$step" ]; then
        echo "$SECONDS $step $memory $open" >>"$work/series"
        if [ $(($(wc -l <"$work/series") % 10)) = 1 ]; then
            printf '%10s %10s %12s %12s\n' "$SECONDS" "$step" "$memory" "$open"
        fi
    fi
    sleep 1
done
status=0
wait "$training" || status=$?
training=
if [ "$status" != 0 ]; then
    cat "$work/log" >&2
    echo "soak: training ended with status $status" >&2
    exit 1
fi
awk '
    { step[NR] = $2; memory[NR] = $3; open[NR] = $4 }
    END {
        first = int(NR / 4) + 1
        n = NR - first + 1
        if (n < 8) { print "soak: too few readings: give more steps" > "/dev/stderr"; exit 1 }
        for (i = first; i <= NR; i++) { x += step[i] / n; y += memory[i] / n }
        for (i = first; i <= NR; i++) { xx += (step[i] - x) ^ 2; xy += (step[i] - x) * (memory[i] - y) }
        slope = xy / xx
        for (i = first; i <= NR; i++) rest += (memory[i] - y - slope * (step[i] - x)) ^ 2
        # Neighbouring readings are alike, which doubles what scatter alone would say, at the least.
        error = 2 * sqrt(rest / (n - 2) / xx)
        # What is left open stays; a file that is being written comes and goes.
        half = int((first + NR) / 2)
        few = open[first]
        many = open[half + 1]
        for (i = first; i <= half; i++) if (open[i] < few) few = open[i]
        for (i = half + 1; i < NR; i++) if (open[i] < many) many = open[i]
        printf "%d readings; resident memory %+.2f KiB per 1,000 steps (+- %.2f), descriptors at least %d, then %d\n", \
            n, 1e3 * slope, 1e3 * error, few, many
        grows = slope > 3 * error && slope * 1e6 > 8192
        if (grows) print "soak: memory grows" > "/dev/stderr"
        if (many > few) print "soak: descriptors grow" > "/dev/stderr"
        exit grows || many > few
    }
' "$work/series"
