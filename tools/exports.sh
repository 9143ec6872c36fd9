#!/bin/sh
# exports.sh -- check that a shared library exports what the public headers declare and nothing else,
# all of it with the version of its soname. Removes a library that does not.
#   exports.sh LIBRARY HEADER...
set -eu
library=$1
shift
trap 'rm -f "$library.exported" "$library.declared"' EXIT
nm -D --defined-only --with-symbol-versions "$library" | awk '$2 != "A" { print $NF }' | LC_ALL=C sort \
    >"$library.exported"
sh tools/symbols.sh list "$@" | sed 's/$/@@EVERHEAP_0/' >"$library.declared"
if ! diff "$library.declared" "$library.exported" >&2; then
    echo "$library: < declared, but not exported; > exported, but not declared" >&2
    rm -f "$library"
    exit 1
fi
