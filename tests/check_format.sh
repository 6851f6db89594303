#!/usr/bin/env bash
# Fails when clang-format would change a source file: make format mends it. Fails as well where it
# cannot tell.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null; then
    echo "clang-format is not installed: make deps"
    exit 1
fi
if echo 'int  f( ) { return 1 ; }' |
    clang-format --dry-run -Werror --assume-filename=base/a.c 2>/dev/null; then
    echo "clang-format finds nothing wrong with a badly formatted line"
    exit 1
fi
mapfile -d '' files < <(find . -name '*.[ch]' -not -path './build/*' -not -path './build-*' -print0)
if [ ${#files[@]} -lt 100 ]; then
    echo "only ${#files[@]} source files are found"
    exit 1
fi
clang-format --dry-run -Werror "${files[@]}"
echo "${#files[@]} files are formatted"
