#!/bin/sh
# check_examples.sh -- see that the examples do what their first comment says, and that the README shows
# hello.c as it is. Usage: check_examples.sh BUILD [some]: with "some", those that are built there.
set -eu
build=$1
some=${2:-}
failed=0

check_readme()
{
    # The first C block of the README is examples/hello.c without its first line.
    sed -n '/^```c$/,/^```$/p' README.md | sed '1d;/^```$/,$d' >"$build/readme-hello.c"
    if ! sed 1d examples/hello.c | diff -u - "$build/readme-hello.c"; then
        echo "README.md and examples/hello.c differ" >&2
        failed=1
    fi
    # Its first C++ block is examples/hello_cxx.cpp likewise.
    sed -n '/^```cpp$/,/^```$/p' README.md | sed '1d;/^```$/,$d' >"$build/readme-hello.cpp"
    if ! sed 1d examples/hello_cxx.cpp | diff -u - "$build/readme-hello.cpp"; then
        echo "README.md and examples/hello_cxx.cpp differ" >&2
        failed=1
    fi
    sh tools/check_hello.sh "$build/examples/hello" || failed=1
}

has_cxx()
{
    command -v "${CXX:-c++}" || command -v g++ || command -v clang++
} >/dev/null 2>&1

[ "$some" ] || check_readme

# An example with a check of its own: examples/NAME.check is run with the binary and a directory.
for check in examples/*.check; do
    [ -f "$check" ] || continue
    name=$(basename "$check" .check)
    if [ "$some" ] && [ ! -e "$build/examples/$name" ]; then continue; fi
    if [ -f "examples/$name.cpp" ] && [ ! -e "$build/examples/$name" ] && ! has_cxx; then
        echo "$name: left out, there is no C++ compiler"
        continue
    fi
    directory=$(mktemp -d)
    if sh "$check" "$(realpath "$build/examples/$name")" "$directory"; then
        echo "$name: as it should"
    else
        echo "$name: failed" >&2
        failed=1
    fi
    rm -rf "$directory"
done
exit $failed
