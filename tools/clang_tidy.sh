#!/bin/sh
# clang_tidy.sh -- run clang-tidy over the given sources where it is installed; .clang-tidy has the list.
set -eu
if ! command -v clang-tidy >/dev/null 2>&1; then
    echo "clang-tidy is not installed: left out"
    exit 0
fi
[ $# -gt 0 ] || exit 0
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 4 sh -c \
    'clang-tidy --quiet --warnings-as-errors="*" "$@" -- -std=c17 -Iinclude -Isrc -Icli' clang_tidy
