#!/usr/bin/env bash
# Fails on an include against the order of the folders (DESIGN.md, "The house"). First it proves on
# a made-up tree that it can fail.
set -euo pipefail
cd "$(dirname "$0")/.."

# Prints every forbidden include of the tree $1 as "file: "include"".
offences() {
    (cd "$1" && find * -name '*.[ch]' -not -path 'tests/*' -not -path 'build*' | sort | xargs -r awk '
        BEGIN { gradients = "(_grad\\.[ch]|/grad[^/]*)$"
                n = split("base weights model heads engine server train tools", names, " ")
                for (i = 1; i <= n; i++) floor[names[i]] = i > 6 ? 6 : i }
        function bad() { print FILENAME ": \"" included "\"" }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            split($0, quoted, "\""); included = quoted[2]
            from = FILENAME; sub(/\/.*/, "", from)
            to = included; sub(/\/.*/, "", to)
            grad = FILENAME ~ gradients || FILENAME ~ /^model\/gemm/ || from == "train"
            if (!(to in floor)) bad()                    # not written from the root, or of tests
            else if (from != to && floor[to] >= floor[from]) bad()
            else if (from == "server" && to != "server" && to != "base" &&
                     included != "engine/engine.h") bad()
            else if (!grad && (included ~ gradients || included == "model/gemm.h")) bad()
        }' /dev/null)
}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{base,weights,model/kernels,heads,engine,server,train,tools}

# $1 says whether it is an offence (1) that file $2 includes $3.
expect() {
    echo "#include \"$3\"" >"$tree/$2"
    found=$(offences "$tree" | wc -l)
    rm "$tree/$2"
    if [ "$found" != "$1" ]; then
        echo "self-check: $2 including $3 gives $found offences, not $1"
        exit 1
    fi
}
expect 1 base/a.c weights/config.h
expect 1 weights/a.h model/model.h
expect 1 model/kernels/a.c heads/heads.h
expect 1 heads/a.c engine/engine.h
expect 1 engine/a.c train/batch.h
expect 1 server/a.c engine/scheduler.h
expect 1 server/a.c weights/config.h
expect 1 server/a.c train/batch.h
expect 1 train/a.c server/http.h
expect 1 tools/a.c train/batch.h
expect 1 model/a.c model/block_grad.h
expect 1 tools/a.c model/gemm.h
expect 1 model/kernels/kernels.c model/kernels/grad.h
expect 1 model/a.c block.h
expect 0 server/a.c engine/engine.h
expect 0 server/a.c base/err.h
expect 0 heads/a_grad.c model/block_grad.h
expect 0 model/gemm_amx.c model/gemm.h
expect 0 model/kernels/grad_avx2.c model/kernels/grad_body.h
expect 0 train/a.c heads/heads_grad.h
expect 0 model/kernels/a.c model/model.h

found=$(offences .)
if [ -n "$found" ]; then
    printf 'includes against the order of the folders:\n%s\n' "$found"
    exit 1
fi
echo "no include against the order of the folders"
