#!/bin/bash
# Other programs that keep every core busy: all threads, as headway takes them by itself, must then not
# be much slower than the best fixed number of them. (Lanes that only wait for one another were a tenth
# as fast.) Noise of a shared machine: the best of three.
set -u
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
[ "$build" = build ] || { echo "test_neighbours: not under sanitizers, whose times say nothing"; exit 0; }
cores=$(nproc)
[ "$cores" -gt 1 ] || { echo "test_neighbours: one core only: nothing to measure"; exit 0; }
dir=$(mktemp -d /tmp/headway-neighbours-XXXXXX)
trap 'kill $busy 2>/dev/null; rm -rf "$dir"' EXIT
busy=
echo '{"prose": ["It was a dark night, and the rain", "The king said"]}' >"$dir/prompts"
model=${HEADWAY_MODELS:-$HOME/.cache/headway-models}/smollm2-135m-instruct-q4_1.gguf
[ -f "$model" ] || { model=weights/demo; echo "test_neighbours: no SmolLM2: the demo, which hardly shows it"; }

rate() { # THREADS: tokens per second, plain
    "$build/headway-bench" --model "$model" --prompts "$dir/prompts" --modes lookup:1 --batch 1 --tokens 200 \
        --repeat 1 --threads "$1" --json "$dir/json" >/dev/null 2>"$dir/err" || { cat "$dir/err"; exit 1; }
    python3 -c "
import json
cells = json.load(open('$dir/json'))['decode']
print(next(c['tokens_per_s'] for c in cells if not c['drafts']))"
}

for i in $(seq "$cores"); do
    python3 -c "while True: pass" &
    busy="$busy $!"
done
sleep 0.5
for round in 1 2 3; do
    one=$(rate 1) all=$(rate 0)
    echo "test_neighbours: $one tokens/s on one thread, $all on those that headway chooses of $cores"
    python3 -c "import sys; sys.exit(not $all > 0.7 * $one)" && exit 0
done
echo "test_neighbours: several threads are much slower than one where others use the cores" >&2
exit 1
