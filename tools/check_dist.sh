#!/bin/sh
# check_dist.sh -- prove that dist/everheap.c and everheap.h are the whole library: both compilers take
# them without a warning, they export evh_* only, an example runs with them, and so do all tests that
# use nothing but the public interface. Usage: check_dist.sh BUILD
set -eu
build=$1
dist=$build/dist
: "${CC:=cc}"
flags="-std=c17 -Wall -Wextra"

compile() { # compiler
    # shellcheck disable=SC2086
    $1 $flags -Werror -O2 -fPIC -c "$dist/everheap.c" -o "$dist/everheap-$1.o"
    foreign=$(nm --defined-only --extern-only "$dist/everheap-$1.o" | awk '{ print $NF }' | grep -v '^evh_' || true)
    if [ -n "$foreign" ]; then
        echo "$1: everheap.c defines more than evh_*: $foreign" >&2
        exit 1
    fi
    echo "$dist/everheap.c compiles with $1"
}

for compiler in gcc clang; do
    if command -v "$compiler" >/dev/null 2>&1; then compile "$compiler"; fi
done
$CC $flags -O1 -g -c "$dist/everheap.c" -o "$dist/everheap.o" # with assertions, for the tests

if [ -f examples/hello.c ]; then
    $CC $flags -I "$dist" examples/hello.c "$dist/everheap.o" -pthread -o "$dist/hello"
    sh tools/check_hello.sh "$dist/hello"
fi

: "${CXX:=c++}"
if command -v "${CXX%% *}" >/dev/null 2>&1; then
    $CXX -std=c++17 -Wall -Wextra -Werror -I "$dist" examples/hello_cxx.cpp "$dist/everheap.o" -pthread \
        -o "$dist/hello_cxx"
    sh examples/hello_cxx.check "$(realpath "$dist/hello_cxx")" "$(mktemp -d -p "$dist")"
    echo "examples/hello_cxx.cpp, with everheap.hpp of $dist"
fi

mkdir -p "$dist/tests"
failed=0
$CC -std=c17 -D_GNU_SOURCE -O1 -g -c tests/test.c -o "$dist/test.o"
for source in tests/*_test.c; do
    [ -f "$source" ] || continue
    # Public only: every include in quotes is test.h.
    if grep '#include "' "$source" | grep -qv '"test.h"'; then continue; fi
    name=$(basename "$source" .c)
    case $name in cli_test) continue ;; esac # it runs the command
    $CC -std=c17 -D_GNU_SOURCE -O1 -g -I "$dist" -I tests -I include "$source" "$dist/test.o" \
        "$dist/everheap.o" -pthread -o "$dist/tests/$name"
    echo "$name, from the two files:"
    EFFORT=${EFFORT:-0.1} timeout 300 "$dist/tests/$name" || failed=1
done
exit $failed
