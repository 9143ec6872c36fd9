#!/bin/sh
# check_hello.sh -- run the hello world of the README twice: "run 1", then "run 2". Usage: check_hello.sh
# PROGRAM
set -eu
program=$(realpath "$1")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
for expected in "run 1" "run 2"; do
    actual=$("$program")
    if [ "$actual" != "$expected" ]; then
        echo "$program said '$actual', expected '$expected'" >&2
        exit 1
    fi
done
echo "$program: run 1, run 2"
