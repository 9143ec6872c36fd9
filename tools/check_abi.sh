#!/bin/sh
# check_abi.sh -- see that abi.sh tells nothing where nothing changed, and finds a function that is gone
# and a struct that became larger. Usage: check_abi.sh BUILD
set -eu
build=$1
library=$build/libeverheap.so
if ! command -v abidiff >/dev/null 2>&1; then
    echo "skipped: abidiff is not installed (Debian: abigail-tools)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
folder=$(mktemp -d -p "$build")
trap 'rm -rf "$folder"' EXIT
: "${CC:=cc}"
passed=0 failed=0

expect() # status what planted-library planted-headers
{
    status=0
    sh tools/abi.sh "$library" "$3" "$4" >"$folder/output" 2>&1 || status=$?
    if [ "$status" = "$1" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$2: status $status, expected $1"
        cat "$folder/output"
    fi
}

link() # target map object...
{
    target=$1 map=$2
    shift 2
    # shellcheck disable=SC2086
    $CC -shared -pthread -Wl,-soname,libeverheap.so.0 -Wl,--version-script="$map" ${LDFLAGS:-} "$@" -o "$target"
}

expect 0 "the same library" "$library" include

# Before: one function more than now.
objects=$(find "$build/objects/release/src" -name '*.o')
printf 'void evh_gone(void);\n__attribute__((visibility("default"))) void evh_gone(void) {}\n' >"$folder/gone.c"
$CC -g -fPIC -c "$folder/gone.c" -o "$folder/gone.o"
sed 's/^    local/        evh_gone;\n    local/' "$build/everheap.map" >"$folder/more.map"
# shellcheck disable=SC2086
link "$folder/more.so" "$folder/more.map" $objects "$folder/gone.o"
expect 1 "a function that is gone" "$folder/more.so" include

# Before: a struct whose last member was shorter. One source alone has it from that header.
cp -r include "$folder/include"
sed -i 's/^    uint64_t reserved\[2\];$/    uint64_t reserved[1];/' "$folder/include/everheap/db.h"
$CC -std=c17 -O2 -g -DNDEBUG -fPIC -fvisibility=hidden -I"$folder/include" -Isrc -c src/db/search.c \
    -o "$folder/search.o"
# shellcheck disable=SC2086
link "$folder/smaller.so" "$build/everheap.map" $(echo "$objects" | grep -v '/db/search.o$') "$folder/search.o"
expect 1 "a struct that became larger" "$folder/smaller.so" "$folder/include"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
