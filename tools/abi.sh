#!/bin/sh
# abi.sh -- compare what two builds of the shared library promise to programs that were linked before:
# functions, their parameters, the structs in the public headers. Needs abidiff (Debian: abigail-tools).
#   abi.sh LIBRARY REVISION            against the library of a git revision, which is built for it
#   abi.sh LIBRARY LIBRARY2 HEADERS2   against another library with its folder of public headers
# Status 0: a program linked with the other runs with LIBRARY. 1: it may not; what changed is told.
set -eu
library=$1
if ! command -v abidiff >/dev/null 2>&1; then
    echo "abidiff is not installed: apt-get install abigail-tools" >&2
    exit 2
fi
if [ $# = 2 ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    git archive "$2" | tar -x -C "$folder"
    make -C "$folder" --no-print-directory -j2 build/libeverheap.so >/dev/null
    set -- "$1" "$folder/build/libeverheap.so" "$folder/include"
fi
status=0
abidiff --headers-dir1 "$3" --headers-dir2 include --drop-private-types --no-added-syms \
    "$2" "$library" || status=$?
# abidiff's bits: 1 and 2 errors, 4 something changed (functions that were added are not told), 8 it
# breaks programs for certain.
if [ $((status & 3)) != 0 ]; then exit 2; fi
[ "$status" = 0 ]
