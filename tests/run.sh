#!/usr/bin/env bash
# Runs tests and says of each whether it passes, as many at a time as there are cores; then those
# behind "alone", which measure time, one by one. For `make test`:
#
#     BUILD=build TEST_TIMEOUT=600 tests/run.sh TEST ... alone TEST ...
#
# JOBS in the environment: how many at a time. RUNNER: what each is started with. What a test printed
# stands in BUILD/tests/log, and of failed ones below the others' results. The line at the end,
# "N passed, N failed", counts programs; the exit status says whether all passed.
set -u
export BUILD="${BUILD:-build}" TEST_TIMEOUT="${TEST_TIMEOUT:-600}" RUNNER="${RUNNER:-}"
export LOGS=$BUILD/tests/log
results=$LOGS/results
rm -rf "$LOGS" && mkdir -p "$LOGS" || exit 1

log_of() {
    echo "$LOGS/${1//\//-}"
}

run_one() {
    local shell= log
    log=$(log_of "$1")
    case $1 in *.sh) shell=bash ;; *.py) shell=python3 ;; esac
    if env $RUNNER timeout -k 10 "$TEST_TIMEOUT" $shell "$1" >"$log" 2>&1; then
        echo "pass $1"
    else
        echo "FAIL $1 (exit $?)"
    fi
}
export -f run_one log_of

together=() alone=()
while [ $# -gt 0 ] && [ "$1" != alone ]; do
    together+=("$1")
    shift
done
[ $# -gt 0 ] && shift && alone=("$@")

{
    printf '%s\0' "${together[@]}" |
        xargs -0 -r -n 1 -P "${JOBS:-$(nproc)}" bash -c 'run_one "$1"' run_one
    for test in "${alone[@]}"; do
        run_one "$test"
    done
} | tee "$results"

grep '^FAIL' "$results" | while read -r _ test _; do
    echo "---- $test"
    cat "$(log_of "$test")"
done
passed=$(grep -c '^pass' "$results") failed=$(grep -c '^FAIL' "$results")
missing=$((${#together[@]} + ${#alone[@]} - passed - failed)) # a test that could not even start
echo "$passed passed, $((failed + missing)) failed"
[ $((failed + missing)) = 0 ] && [ "$passed" -gt 0 ]
