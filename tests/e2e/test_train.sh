#!/bin/bash
# The trainer from outside: a run that is killed and resumed, interrupted, or given other threads
# writes the same bytes as one that nothing happened to; wrong options are refused with a sentence.
set -u
cd "$(dirname "$0")/../.."
train=${BUILD:-build}/headway-train
dir=$(mktemp -d /tmp/headway-train-XXXXXX)
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf "$dir"' EXIT

fail() {
    echo "test_train: $*" >&2
    [ -s "$dir/err" ] && sed 's/^/    /' "$dir/err" >&2
    exit 1
}

# A run must last long enough to be hit, also where writing a file takes no time. Sanitizers cost a
# factor of ten: they get less.
steps=48
size="--dim 64 --layers 2 --context 128 --batch 4"
case $train in *address* | *thread* | *undefined*)
    steps=30
    size="--dim 32 --layers 1 --context 128 --batch 4"
    ;;
esac

for f in base/*.[ch] engine/*.[ch] heads/*.[ch] train/*.[ch]; do
    cat "$f"
    printf '\0'
done >"$dir/corpus"
for f in weights/*.[ch]; do
    cat "$f"
    printf '\0'
done >"$dir/held-out"

shape=(--corpus "$dir/corpus" --kind parallel --heads 3 $size --seed 5)
# Options of a whole run; later ones win.
run=("${shape[@]}" --steps "$steps" --warmup 2 --rate 3e-3 --threads 1)

# start OUT OPTION...: a run in the background, its messages in err.
start() {
    local out=$1
    shift
    "$train" "${run[@]}" --out "$out" "$@" >"$dir/log" 2>"$dir/err" &
    child=$!
}

finish() {
    start "$@"
    wait "$child" || fail "exit $? from: $*"
    child=
}

same() {
    cmp "$1/checkpoint.safetensors" "$2/checkpoint.safetensors" &&
        cmp "$1/model.safetensors" "$2/model.safetensors" &&
        cmp "$1/config.json" "$2/config.json" || fail "$3"
}

# Waits until the run has written a checkpoint that was not there before; false when it ended first.
fresh_checkpoint() {
    local file=$1/checkpoint.safetensors was=$2
    while [ "$(stat -c %i-%y "$file" 2>/dev/null)" = "$was" ]; do
        kill -0 "$child" 2>/dev/null || return 1
        sleep 0.01
    done
}

resume() {
    [ -f "$1/checkpoint.safetensors" ] && echo --resume
}

# ---- the run that nothing happens to ----

finish "$dir/whole"
[ -f "$dir/whole/config.json" ] || fail "no config.json"

# ---- killed at random moments, most of them while it saves ----

RANDOM=${SEED:-$$}
echo "SEED=${SEED:-$$}"
# Where a run is over before it is hit, it is tried again with a quicker hand.
for most in 60 30 10 3 1 1; do
    rm -rf "$dir/killed"
    kills=0
    for round in 1 2 3 4 5; do
        was=$(stat -c %i-%y "$dir/killed/checkpoint.safetensors" 2>/dev/null)
        start "$dir/killed" --save-every 1 $(resume "$dir/killed")
        if fresh_checkpoint "$dir/killed" "$was"; then
            sleep "0.$(printf %03d $((RANDOM % most)))"
            kill -9 "$child" 2>/dev/null
        fi
        wait "$child" 2>/dev/null
        [ $? = 137 ] && kills=$((kills + 1))
        child=
    done
    [ $kills -ge 2 ] && break
done
[ $kills -ge 2 ] || fail "only $kills of 5 kills came in time"
finish "$dir/killed" --save-every 3 --resume
same "$dir/whole" "$dir/killed" "a run killed $kills times and resumed ends in other bytes"
[ -z "$(ls "$dir/killed" | grep -v -x -e checkpoint.safetensors -e model.safetensors \
    -e config.json -e log.jsonl)" ] || fail "something was left in $(ls "$dir/killed")"
finish "$dir/killed" --resume # nothing is left to do
same "$dir/whole" "$dir/killed" "resuming a run that has ended changes it"

# ---- interrupted, and stopped on purpose ----

for signal in INT TERM; do
    start "$dir/$signal" --save-every 2
    fresh_checkpoint "$dir/$signal" ""
    kill -$signal "$child" 2>/dev/null
    wait "$child" || fail "exit $? after SIG$signal"
    child=
    grep -q "saved at step [0-9]* of $steps: --resume continues" "$dir/err" ||
        fail "SIG$signal came too late or was not told"
    finish "$dir/$signal" --resume
    same "$dir/whole" "$dir/$signal" "a run interrupted by SIG$signal ends in other bytes"
done
finish "$dir/stopped" --stop-after 5
grep -q "saved at step 5 of" "$dir/err" || fail "--stop-after 5 did not stop there"
cmp -s "$dir/whole/checkpoint.safetensors" "$dir/stopped/checkpoint.safetensors" &&
    fail "five steps give what $steps give"
finish "$dir/stopped" --resume --stop-after 7 --eval-every 1 --held-out "$dir/held-out" \
    --eval-windows 2
[ "$(grep -c "^held-out at step [67]\$" "$dir/log")" = 2 ] &&
    [ "$(grep -c "^held-out" "$dir/log")" = 2 ] || fail "--resume did not go on from step 5"
finish "$dir/stopped" --resume --threads 2
same "$dir/whole" "$dir/stopped" "a run resumed with two threads ends in other bytes"

# ---- the number of threads: rows, heads and products that do not divide evenly ----

odd="--dim 48 --n-heads 3 --context 25 --batch 3 --steps 3 --warmup 1"
wide="--dim 16 --n-heads 1 --hidden 2048 --context 33 --batch 1 --steps 2 --warmup 1"
long="--dim 16 --n-heads 1 --hidden 64 --context 512 --batch 2 --steps 2 --warmup 1"
for options in "$odd" "$odd --precision f32" "$wide --precision f32" "$long --precision f32"; do
    for threads in 1 2; do
        rm -rf "$dir/threads$threads"
        finish "$dir/threads$threads" $options --threads $threads
    done
    same "$dir/threads1" "$dir/threads2" "two threads give other bytes than one: $options"
done

# ---- evaluation ----

rows() {
    grep -c '^ *[1-9] *[0-9]*\.[0-9]* *[0-9.]* %$' "$1"
}

finish "$dir/eval" --held-out "$dir/held-out" --eval-every 4 --eval-windows 20
"$train" --evaluate --out "$dir/eval" --held-out "$dir/held-out" --eval-windows 20 --threads 1 \
    >"$dir/log" 2>"$dir/err" || fail "--evaluate: exit $?"
[ "$(rows "$dir/log")" = 3 ] || fail "--evaluate does not print a row for each of 3 heads"
python3 - "$dir/eval/log.jsonl" <<'EOF' || fail "log.jsonl"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
held_out = [row["held_out"] for row in rows if "held_out" in row]
assert all([h["head"] for h in row] == [1, 2, 3] for row in held_out), held_out
first, last = ([h["bits_per_byte"] for h in row] for row in (held_out[0], held_out[-1]))
assert all(a > b for a, b in zip(first, last)), "nothing was learned: %s %s" % (first, last)
assert any("grad_norm" in row and row["bytes_per_second"] > 0 for row in rows), rows
EOF

# ---- refusals ----

# refused WORDS OPTION...: exit 1 with one sentence that has the words, and no folder.
refused() {
    local words=$1
    shift
    "$train" "$@" >"$dir/log" 2>"$dir/err"
    local code=$?
    [ $code = 1 ] || fail "exit $code from: $*"
    [ "$(wc -l <"$dir/err")" = 1 ] && grep -q "^headway-train: " "$dir/err" ||
        fail "not one sentence from: $*"
    grep -q -F -e "$words" "$dir/err" || fail "no '$words' in the answer to: $*"
    [ ! -e "$dir/none" ] || fail "a folder was made by: $*"
}

for other in --rate\ 2e-3 --seed\ 6 --batch\ 7 --steps\ 49 --clip\ 2 --heads\ 2; do
    set -- $other
    refused "this run says ${1#--}=" "${run[@]}" --out "$dir/whole" $other --resume
done
finish "$dir/whole" --resume
same "$dir/whole" "$dir/killed" "a refused --resume changed the checkpoint"

ok=("${shape[@]}" --steps 3 --warmup 1 --out "$dir/none")
refused "checkpoint.safetensors" "${ok[@]}" --resume
refused "'dim' is 33" "${ok[@]}" --dim 33
refused "n_heads (3)" "${ok[@]}" --dim 64 --n-heads 3
refused "multiple of 16" "${ok[@]}" --dim 64 --n-heads 8
refused "'n_kv_heads' is 3" "${ok[@]}" --dim 64 --n-heads 4 --kv-heads 3
refused "'hidden' is 40" "${ok[@]}" --hidden 40
refused "'--dmi' is not an option" "${ok[@]}" --dmi 64
refused "'word' is not an option" "${ok[@]}" word
refused "--dim needs a value" "${ok[@]}" --dim
refused "--heads is 0" "${ok[@]}" --heads 0
refused "--heads is 33" "${ok[@]}" --heads 33
refused "--batch takes a whole number, not '1.5'" "${ok[@]}" --batch 1.5
refused "--rate takes a number, not 'nan'" "${ok[@]}" --rate nan
refused "--rate is -1" "${ok[@]}" --rate -1
refused "--layers is -1" "${ok[@]}" --layers -1
refused "--vocab is 256" "${ok[@]}" --vocab 256
refused "--threads is 1000" "${ok[@]}" --threads 1000
refused "one of: parallel causal anticausal" "${ok[@]}" --kind diagonal
refused "auto|f32|bf16" "${ok[@]}" --precision f64
refused "auto|generic|avx2|avxvnni|avx512" "${ok[@]}" --isa abacus
refused "--resume takes no value" "${ok[@]}" --resume=yes
refused "--warmup 3 leaves none of --steps 3" "${ok[@]}" --warmup 3
refused "smaller --context" "${ok[@]}" --context 65536 --batch 1 --corpus base/err.h
refused "$dir/missing" "${ok[@]}" --corpus "$dir/missing"
refused "$dir/missing" "${ok[@]}" --held-out "$dir/missing"
refused "--corpus is missing" --out "$dir/none"
refused "--out is missing" --corpus "$dir/corpus"
refused "--evaluate needs --held-out" --evaluate --out "$dir/eval"
refused "$dir/none" --evaluate --out "$dir/none" --held-out "$dir/held-out"
refused "could not be made" "${ok[@]}" --out "$dir/none/deeper"

"$train" --help >"$dir/log" 2>"$dir/err" || fail "--help: exit $?"
for option in --corpus --held-out --out --kind --heads --resume --version; do
    grep -q -e "^  $option" "$dir/log" || fail "--help does not list $option"
done
"$train" --version >"$dir/log" 2>"$dir/err" || fail "--version: exit $?"
grep -q -x 'headway [0-9.]*' "$dir/log" || fail "--version prints $(cat "$dir/log")"
echo "test_train: all well, $kills kills"
