#!/bin/sh
# planted.sh -- build the crash test with each planted bug, and see that it is found.
#
#   tools/planted.sh BUILD [NUMBER...]        CC, PLANT_IMAGES (images per plan, default 200000)
#
# A planted bug is a compile-time switch that removes one step of the protocol (docs/crash-model.md).
# Only the sources that have such switches are compiled anew; the rest is the debug library that
# `make tests` has built. Exit status 0 if every bug was found.
set -u
build=$1
shift
numbers=${*:-1 2 3 4 5 6 7 8 9 10 11 12}
compiler=${CC:-cc}
objects=$build/objects/debug
flags="-std=c17 -fPIC -fvisibility=hidden -ftls-model=initial-exec -pthread -O1 -g -Iinclude -Isrc"
sources=$(grep -l 'PLANTED(' src/*/*.c)
missed=0

for number in $numbers; do
    directory=$build/planted/$number
    mkdir -p "$directory"
    parts=
    for source in $sources; do
        grep -q "PLANTED($number)" "$source" || continue
        part=$directory/$(basename "$source" .c).o
        # shellcheck disable=SC2086
        $compiler $flags -DEVERHEAP_PLANT="$number" -c "$source" -o "$part" || exit 2
        parts="$parts $part"
    done
    # shellcheck disable=SC2086
    $compiler -pthread $parts "$objects/tests/crash_test.o" "$objects/libsupport.a" \
        "$objects/libeverheap.a" -o "$directory/crash_test" || exit 2
    start=$(date +%s)
    output=$(CRASH_IMAGES=${PLANT_IMAGES:-200000} "$directory/crash_test" 2>&1)
    status=$?
    seconds=$(($(date +%s) - start))
    if [ -n "$parts" ] && [ $status -ne 0 ]; then
        finder=$(echo "$output" | sed -n 's/^FAILED //p' | head -n 1)
        echo "planted bug $number: found by ${finder:-a crash}, $seconds s"
        [ -n "${V:-}" ] && echo "$output" | grep -A1 '^FAILED'
    else
        echo "planted bug $number: NOT FOUND, $seconds s"
        missed=$((missed + 1))
    fi
done
[ $missed -eq 0 ]
