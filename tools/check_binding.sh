#!/bin/sh
# check_binding.sh -- run a binding's tests, if it was built and its interpreter is there.
#   check_binding.sh BUILD FOLDER INTERPRETER TEST
set -eu
if [ -e "$1/$2/done" ] && command -v "$3" >/dev/null 2>&1; then exec "$3" "$4" "$1"; fi
echo "skipped: the binding in $1/$2 was not built, for want of headers"
echo "0 passed, 0 failed, 1 skipped"
