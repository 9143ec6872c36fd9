#!/bin/sh
# planted.sh -- build the crash test with each planted bug, and see that it is found.
#
#   tools/planted.sh BUILD [NUMBER...]      CC; PLANT_IMAGES (at most, default 60000); V=1: how
#
# A planted bug is a compile-time switch that removes one step of the protocol (docs/crash-model.md).
# Only the sources that have such switches are compiled anew; the rest is the debug library that
# `make tests` has built. They have no assertions, so that the simulator is put to the test and not
# the code's own checks. The test that is known to find a bug runs first, the others only if it
# does not. Exit status 0 if every bug was found.
#
# 13 to 21 are bugs of live heaps (docs/live.md): 14 to 16 are for the explorer of interleavings,
# the others for the test that kills at every instruction.
set -u
build=$1
shift
numbers=${*:-1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24}
compiler=${CC:-cc}
objects=$build/objects/debug
flags="-std=c17 -fPIC -fvisibility=hidden -ftls-model=initial-exec -pthread -O1 -g -DNDEBUG -Iinclude -Isrc"
explored="-fsanitize=thread -DEVERHEAP_EXPLORE -fno-builtin-memcpy -fno-builtin-memmove -fno-builtin-memset -fno-builtin-memcmp"
wrapped="-Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset,--wrap=memcmp"
sources=$(grep -l 'PLANTED(' src/*/*.c)
missed=0

# What a bug is planted into: the test, flags for the compiler and the linker, the library.
choose() {
    library=$objects/libeverheap.a
    object=$objects/tests/crash_test.o
    more=
    linked=
    case $1 in
    13 | 17 | 18 | 19 | 20 | 21) object=$objects/tests/live_step_test.o ;;
    14 | 15 | 16)
        object=$build/objects/explore/tests/explore_live_test.o
        library=$build/objects/explore/libeverheap.a
        more=$explored
        linked=$wrapped
        ;;
    esac
}

finder_of() {
    case $1 in
    2) echo commits_in_flight ;;
    5) echo background_checkpointer ;;
    8 | 12) echo a_view_stays_whole ;;
    9 | 10) echo a_failed_write_or_flush ;;
    11) echo the_kernels_dirty_pages ;;
    13 | 17 | 18 | 19 | 20) echo a_kill_at_any_instruction ;;
    21) echo a_process_that_is_stopped ;;
    14 | 15) echo pairs_of_operations ;;
    16) echo a_thread_killed ;;
    22 | 23 | 24) echo a_crash_while_new_pages ;;
    *) echo a_crash_leaves ;;
    esac
}

# The two operations whose interleavings show it.
pair_of() {
    case $1 in
    14) echo "malloc in a class with a full slice / free in another's slice with pending frees" ;;
    15) echo "malloc in a class with a full slice / malloc by a new thread" ;;
    esac
}

# The scenario of the killer at every instruction that shows it.
scenario_of() {
    case $1 in
    13) echo "malloc in a new class" ;;
    17 | 19) echo malloc_to ;;
    18) echo "reaping one" ;;
    20) echo free_from ;;
    21) echo "a dead process's root" ;;
    esac
}

# Every object that has the switch, linked before the library.
plant() {
    parts=
    mkdir -p "$directory" || return 1
    for source in $sources; do
        grep -q "PLANTED($1)" "$source" || continue
        part=$directory/$(basename "$source" .c).o
        # shellcheck disable=SC2086
        $compiler $flags $more -DEVERHEAP_PLANT="$1" -c "$source" -o "$part" || return 1
        parts="$parts $part"
    done
    if [ -z "$parts" ]; then
        echo "planted bug $1: no source has PLANTED($1)" >&2
        return 1
    fi
    # shellcheck disable=SC2086
    $compiler -pthread $linked $parts "$object" "$objects/libsupport.a" "$library" \
        -o "$directory/planted_test"
}

for number in $numbers; do
    directory=$build/planted/$number
    choose "$number"
    plant "$number" || exit 2
    start=$(date +%s)
    status=0
    for tests in "$(finder_of "$number")" ""; do
        output=$(CRASH_IMAGES=${PLANT_IMAGES:-60000} PAIR=$(pair_of "$number") \
            SCENARIO=$(scenario_of "$number") STOPS=400 "$directory/planted_test" "$tests" 2>&1)
        status=$?
        [ $status -ne 0 ] && break
    done
    seconds=$(($(date +%s) - start))
    if [ $status -eq 0 ]; then
        echo "planted bug $number: NOT FOUND, $seconds s"
        missed=$((missed + 1))
        continue
    fi
    finder=$(echo "$output" | sed -n 's/^FAILED //p' | head -n 1)
    echo "planted bug $number: found by ${finder:-a crash of the library}, $seconds s"
    [ -n "${V:-}" ] && echo "$output" | grep -A 3 '^FAILED'
done
[ $missed -eq 0 ]
