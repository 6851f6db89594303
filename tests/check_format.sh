#!/usr/bin/env bash
# Fails when clang-format would change a source file: make format mends it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v clang-format >/dev/null; then
    echo "skip: clang-format is not installed"
    exit 0
fi
find * -name '*.[ch]' -not -path 'build*' -print0 |
    xargs -0 -r clang-format --dry-run -Werror
