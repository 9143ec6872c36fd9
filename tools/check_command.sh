#!/bin/sh
# check_command.sh -- see that the command answers, and refuses, with the right exit codes. What its
# subcommands print is tested in tests/. Usage: check_command.sh BUILD
set -eu
everheap=$(realpath "$1/everheap")
hello=$(realpath "$1/examples/hello")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
failed=0

expect() { # status command...
    wanted=$1
    shift
    actual=0
    "$@" >output 2>&1 || actual=$?
    if [ "$actual" != "$wanted" ]; then
        echo "$*: exit code $actual, expected $wanted" >&2
        sed 's/^/    /' output >&2
        failed=1
    fi
}

"$hello" >/dev/null
before=$(cksum <hello.heap)
expect 0 "$everheap" --version
expect 0 "$everheap" --help
for command in info check map dump log digest stat; do
    expect 0 "$everheap" "$command" --help
    expect 0 "$everheap" "$command" hello.heap
    expect 0 "$everheap" "$command" --json hello.heap
    python3 -m json.tool <output >/dev/null || {
        echo "$command --json is no JSON" >&2
        failed=1
    }
    expect 2 "$everheap" "$command" missing.heap
    expect 2 "$everheap" "$command" .
done
expect 2 "$everheap" nonsense
expect 2 "$everheap"
if [ "$before" != "$(cksum <hello.heap)" ]; then
    echo "looking at the heap changed it" >&2
    failed=1
fi
expect 0 "$everheap" trim hello.heap
expect 0 "$everheap" check hello.heap
if [ "$failed" = 0 ]; then echo "the command answers"; fi
exit $failed
