#!/bin/bash
# How the trainer's memory grows with the number of prediction heads: the peak resident memory of two
# steps with 1, 2, 4 and 8 heads of one layer on the same trunk, for a small and a large vocabulary.
#
#   tools/train_memory.sh [OPTION...]     BUILD names the build folder; options go to headway-train
#
# "parameters": parameters, gradients and both moments, a float each. "rest": the peak without them,
# that is activations, logits, the program and its libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
train=${BUILD:-build}/headway-train
dir=$(mktemp -d /tmp/headway-memory-XXXXXX)
trap 'rm -rf "$dir"' EXIT
cat base/*.c engine/*.c train/*.c >"$dir/corpus"

# Runs a command, keeps its messages in err, and prints its peak resident memory in KiB.
peak='import resource, subprocess, sys
done = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=open(sys.argv[1], "w"))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)'

# row PRECISION VOCAB HEADS: prints precision, vocab, heads, and KiB: peak, parameters.
row() {
    local kib numbers
    kib=$(python3 -c "$peak" "$dir/err" "$train" --corpus "$dir/corpus" --out "$dir/out" \
        --layers 4 --dim 256 --context 256 --batch 4 --steps 2 --warmup 1 "${@:4}" \
        --heads "$3" --vocab "$2" --precision "$1") || {
        cat "$dir/err" >&2
        exit 1
    }
    numbers=$(sed -n 's/.* info \([0-9]*\) parameters.*/\1/p' "$dir/err")
    echo "$1 $2 $3 $kib $((numbers * 4 * 4 / 1024))"
}

for precision in f32 auto; do
    for vocab in 257 32000; do
        for heads in 1 2 4 8; do
            row $precision $vocab $heads "$@"
        done
    done
done | awk '
    BEGIN {
        print "precision  vocab  heads  peak MiB  parameters MiB  rest MiB  peak ratio  rest ratio"
    }
    $3 == 1 { peak = $4; rest = $4 - $5 }
    {
        printf "%-9s  %5d  %5d  %8.1f  %14.1f  %8.1f  %10.2f  %10.2f\n", $1, $2, $3, $4 / 1024,
            $5 / 1024, ($4 - $5) / 1024, $4 / peak, ($4 - $5) / rest
    }'
