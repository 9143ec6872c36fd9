#!/bin/sh
# needs.sh -- see that the tools which the tests need beyond make, a compiler and a C library are
# there. Installs them on Debian when it may, saying so first; otherwise says how, and stops.
set -eu
python=${1:-python3}
command -v "$python" >/dev/null 2>&1 && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "the tests need python3: installing it with apt-get install python3"
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3
    command -v "$python" >/dev/null 2>&1 && exit 0
fi
echo "the tests need python3: apt-get install python3" >&2
exit 2
