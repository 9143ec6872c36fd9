#!/bin/sh
# symbols.sh -- the functions that the public headers declare with EVH_API.
#   symbols.sh list HEADER...   their names, sorted, one to a line
#   symbols.sh map HEADER...    a version script for the linker: these are exported, nothing else is
# Until version 1.0 all have the one version of the library's soname. From then on a function that is
# added gets the version that brought it, and nothing is taken away.
set -eu
form=$1
shift
names=$(cat "$@" | sed -n '/^EVH_API /s/.*[ *]\(evh_[a-z0-9_]*\)(.*/\1/p' | LC_ALL=C sort -u)
declared=$(cat "$@" | grep -c '^EVH_API ')
if [ "$(echo "$names" | wc -l)" != "$declared" ]; then
    echo "symbols.sh: $declared lines begin with EVH_API; not each names one function, once" >&2
    exit 1
fi
case $form in
list) echo "$names" ;;
map)
    echo "EVERHEAP_0 {"
    echo "    global:"
    echo "$names" | sed 's/.*/        &;/'
    echo "    local: *;"
    echo "};"
    ;;
*) exit 2 ;;
esac
