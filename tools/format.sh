#!/bin/sh
# format.sh -- lay the sources out with clang-format; with --check only say what it would change.
set -eu
if ! command -v clang-format >/dev/null 2>&1; then
    echo "clang-format is not installed: layout not checked"
    exit 0
fi
files=$(find include src compat tests examples cli bench preload bindings \( -name '*.[ch]' -o -name '*.[ch]pp' \) 2>/dev/null | sort)
if [ "${1:-}" = --check ]; then
    # shellcheck disable=SC2086
    clang-format --dry-run -Werror $files
else
    # shellcheck disable=SC2086
    clang-format -i $files
    # shellcheck disable=SC2086
    python3 tools/wrap_comments.py $files
fi
