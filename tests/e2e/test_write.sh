#!/bin/bash
# headway-write from outside: the file does not depend on threads, on how many texts are written at
# a time, or on having been killed and resumed; wrong options are refused with a sentence.
set -u
cd "$(dirname "$0")/../.."
write=${BUILD:-build}/headway-write
dir=$(mktemp -d /tmp/headway-write-XXXXXX)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "test_write: $*" >&2
    [ -s "$dir/err" ] && sed 's/^/    /' "$dir/err" >&2
    exit 1
}

echo '["The ", "int main(", "def "]' >"$dir/openings"
tokens=6000
case $write in *address* | *thread* | *undefined*) tokens=1500 ;; esac # a tenth of the speed
options=(--model weights/demo --openings "$dir/openings" --answer 120 --tokens $tokens --seed 3)

run() { # OUT OPTION...
    "$write" "${options[@]}" --out "$dir/$1" "${@:2}" 2>"$dir/err" || fail "exit $? from: $*"
}

run whole --sequences 8
grep -q "tokens/s" "$dir/err" || fail "no report"
run other --sequences 3 --threads 1
cmp "$dir/whole" "$dir/other" || fail "another file with 3 sequences and one thread"
run seed --seed 4
cmp -s "$dir/whole" "$dir/seed" && fail "another seed gives the same file"

# Killed at three sizes of the file (4 bytes a token), then resumed.
for size in $((tokens / 3)) $((tokens * 4 / 3)) $((tokens * 8 / 3)); do
    rm -f "$dir/killed"
    "$write" "${options[@]}" --out "$dir/killed" --sequences 4 2>/dev/null &
    child=$!
    while kill -0 $child 2>/dev/null &&
        [ "$(stat -c %s "$dir/killed" 2>/dev/null || echo 0)" -lt $size ]; do
        sleep 0.01
    done
    kill -9 $child 2>/dev/null
    wait $child 2>/dev/null
    head -c -5 "$dir/killed" >"$dir/torn" && mv "$dir/torn" "$dir/killed"
    run killed --resume
    cmp "$dir/whole" "$dir/killed" || fail "killed at $size bytes, it goes on to another file"
done

# Questions from a file: each is answered once.
echo '["What is a cat?", "What is a dog?", "What is a cat?"]' >"$dir/prompts"
run prompts --prompts "$dir/prompts" --tokens 100000
grep -q " in [1-3] texts" "$dir/err" || fail "not one text for each prompt"

refused() { # TEXT OPTION...
    "$write" "${@:2}" 2>"$dir/err" && fail "not refused: ${*:2}"
    grep -q -- "$1" "$dir/err" || fail "does not say '$1'"
}
refused "--model is missing" --out "$dir/x"
refused "--out is missing" --model weights/demo
refused "must be a list of strings" --model weights/demo --out "$dir/x" --prompts weights/demo/config.json
refused "could not be opened" "${options[@]}" --out "$dir/nowhere" --resume
refused "is no text of headway's" "${options[@]}" --out "$dir/openings" --resume
echo "test_write: all is well"
