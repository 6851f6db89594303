#!/usr/bin/env bash
# Fails on an include against the order of the folders (DESIGN.md, "The house"). First it proves on
# a made-up tree that it can fail.
set -euo pipefail
cd "$(dirname "$0")/.."

# Prints every forbidden include of the tree $1 as "file: what is included".
offences() {
    (cd "$1" && find . -type f \( -name '*.[chS]' -o -name '*.inc' -o -name '*.cpp' -o -name '*.hpp' \) \
        -not -path './tests/*' -not -path './build/*' -not -path './build-*' -not -path './.*/*' |
        sort | sed 's/^\.\///' | xargs -r -d '\n' awk '
        BEGIN { gradients = "(_grad\\.[ch]|/grad[^/]*)$"
                n = split("base text weights model heads engine server train tools", names, " ")
                for (i = 1; i <= n; i++) floor[names[i]] = i > 7 ? 7 : i }
        function bad() { print FILENAME ": " $0 }
        # Comments before the name do not hide it; a name behind a macro hides from us.
        { gsub(/\/\*([^*]|\*[^\/])*\*\//, " ") }
        /^[ \t]*(#|%:|\?\?=)[ \t]*(include|include_next|import)[^a-z_]/ {
            quoted = $0
            if (!sub(/^[^"<]*(include|include_next|import)[ \t]*["<]/, "", quoted)) { bad(); next }
            included = quoted; sub(/[">].*/, "", included)
            from = FILENAME; sub(/\/.*/, "", from)
            to = included; sub(/\/.*/, "", to)
            grad = FILENAME ~ gradients || FILENAME ~ /^model\/gemm/ || from == "train"
            # Angle brackets are for what is not ours, but find ours too.
            if ($0 ~ /(include|import)[ \t]*</ && !(to in floor) && to !~ /^(tests|\.\.?)$/) next
            if (!(to in floor)) bad()                    # not written from the root, or of tests
            else if (included ~ /(^|\/)\.\.?\//) bad()   # leads elsewhere than it seems
            else if (from != to && floor[to] >= floor[from]) bad()
            else if (from == "server" && to != "server" && to != "base" && to != "text" &&
                     included != "engine/engine.h") bad()
            else if (!grad && (included ~ gradients || included == "model/gemm.h")) bad()
        }' /dev/null)
}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{base,text,weights/demo,model/kernels,heads,engine,server,train,tools,builder}

# $1 says whether it is an offence (1) that file $2 has the line $3.
expect_line() {
    echo "$3" >"$tree/$2"
    found=$(offences "$tree" | wc -l)
    rm "$tree/$2"
    if [ "$found" != "$1" ]; then
        echo "self-check: $2 with $3 gives $found offences, not $1"
        exit 1
    fi
}

# $1 says whether it is an offence (1) that file $2 includes $3.
expect() {
    expect_line "$1" "$2" "#include \"$3\""
}
expect 1 base/a.c weights/config.h
expect 1 base/a.c text/utf8.h
expect 1 text/a.c weights/config.h
expect 1 weights/a.h model/model.h
expect 1 weights/demo/a.h model/model.h
expect 1 model/kernels/a.c heads/heads.h
expect 1 heads/a.c engine/engine.h
expect 1 engine/a.c train/batch.h
expect 1 server/a.c engine/scheduler.h
expect 1 server/a.c weights/config.h
expect 1 server/a.c train/batch.h
expect 1 train/a.c server/http.h
expect 1 tools/a.c train/batch.h
expect 1 tools/a.c server/http.h
expect 1 tools/a.cpp server/http.h
expect 1 model/a.c model/block_grad.h
expect 1 tools/a.c model/gemm.h
expect 1 model/kernels/kernels.c model/kernels/grad.h
expect 1 model/a.c block.h
expect 1 model/a.c tests/unit/unit.h
expect 1 model/a.c model/../engine/engine.h
expect 1 model/a.c ./engine/engine.h
expect 1 model/a.c ../engine/engine.h
expect 1 builder/a.c base/err.h
expect 1 a.c base/err.h
expect_line 1 model/a.c '#include <engine/engine.h>'
expect_line 1 model/a.c '#include <../engine/engine.h>'
expect_line 1 model/a.c '  #  include<engine/engine.h>'
expect_line 1 model/a.c '#include"engine/engine.h"'
expect_line 1 model/a.c '/* x */ #include /* y */ "engine/engine.h" // z'
expect_line 1 model/a.c '#include_next <engine/engine.h>'
expect_line 1 model/a.c '#include ENGINE'
expect 0 text/a.c base/buf.h
expect 0 weights/a.c text/utf8.h
expect 0 server/a.c engine/engine.h
expect 0 server/a.c text/utf8.h
expect 0 server/a.c base/err.h
expect 0 heads/a_grad.c model/block_grad.h
expect 0 model/gemm_amx.c model/gemm.h
expect 0 model/kernels/grad_avx2.c model/kernels/grad_body.h
expect 0 train/a.c heads/heads_grad.h
expect 0 model/kernels/a.c model/model.h
expect_line 0 model/a.c '#include <stdio.h>'
expect_line 0 model/a.c '#include <sys/stat.h>'
expect_line 0 model/a.c '#include <linux/futex.h> /* not "engine/engine.h" */'
expect_line 0 model/a.c '/* #include "engine/engine.h" */'

files=$(find ./base ./text ./weights ./model ./heads ./engine ./server ./train ./tools -name '*.[ch]' | wc -l)
if [ "$files" -lt 100 ]; then
    echo "only $files source files are found"
    exit 1
fi
found=$(offences .)
if [ -n "$found" ]; then
    printf 'includes against the order of the folders:\n%s\n' "$found"
    exit 1
fi
echo "no include against the order of the folders in $files files"
