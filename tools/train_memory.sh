#!/bin/bash
# How the trainer's memory grows with the number of prediction heads, for each kind of heads, in two
# orders: the memory-saving one of Gloeckle et al. 2024, section 2, which the trainer uses, and the
# naive one, which holds the logits of all heads at once. Peak resident memory of a process that
# computes the gradients of two passes over 4 sequences of 256 tokens, with 4 layers of width 256 in
# the trunk, heads of one layer and a vocabulary of 32,000.
#
#   make build-tests && tools/train_memory.sh [KIND...]     BUILD names the build folder
#
# In the paper's order the logits of one head take 1024 rows x 32,000 floats, 125 MiB. The trainer
# holds those of only 256 rows (LOSS_ROWS) at a time, 31 MiB: it saves more than the paper. The naive
# order is tests/unit/test_memory_order.c, which also tests that both give the same gradients.
#
# "parameters": parameters, gradients and both moments, a float each; replicated heads are a
# vocabulary x width matrix each. "rest": the peak without them, that is activations, logits, the
# program and its libraries. "acts": of the rest, the activations of heads and the gradients of their
# outputs, which the naive order keeps for all heads, and the saving order for all heads of a chain
# but else for one. "ratio": the rest over that of one head; "no acts": the same, both without acts.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${BUILD:-build}/tests/unit/test_memory_order
[ -x "$program" ] || { echo "$program is missing: run make build-tests" >&2; exit 1; }

# Runs a command, then prints its peak resident memory in KiB.
peak='import resource, subprocess, sys
rc = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(rc)'

echo "kind        order   heads  peak MiB  parameters  rest MiB  acts MiB  ratio  no acts"
for kind in ${*:-parallel causal anticausal linear replicated}; do
    for order in saving naive; do
        for heads in 1 2 4 8; do
            # the program's numbers, then the peak
            numbers=$(python3 -c "$peak" "$program" "$kind" "$heads" 32000 "$order")
            echo "$kind" "$order" "$heads" $numbers
        done
    done
done | awk '{
    parameters = $4 / 1048576; acts = $5 / 1048576; peak = $6 / 1024; rest = peak - parameters
    if ($3 == 1) { rest1 = rest; bare1 = rest - acts }
    printf "%-10s  %-6s  %5d  %8.1f  %10.1f  %8.1f  %8.1f  %5.2f  %7.2f\n", $1, $2, $3, peak,
        parameters, rest, acts, rest / rest1, (rest - acts) / bare1
    fflush()
}'
