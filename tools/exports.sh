#!/bin/sh
# exports.sh -- check that a shared library exports evh_* and nothing else.
set -eu
library=$1
foreign=$(nm -D --defined-only "$library" | awk '{ print $NF }' | grep -v '^evh_' || true)
if [ -n "$foreign" ]; then
    echo "$library exports more than evh_*:" >&2
    echo "$foreign" >&2
    rm -f "$library"
    exit 1
fi
