#!/bin/sh
# needs_optional.sh -- install what the tests use where it is there, and skip where it is not: other
# builders, shells, documents' tools, headers of other languages. Installs on Debian when it may, saying
# so first; otherwise says how, and stops.
set -eu
packages="cmake pkg-config abigail-tools mandoc doxygen fish zsh python3-dev nodejs libnode-dev
libmicrohttpd-dev libedit-dev prometheus chromium debhelper lintian libjansson-dev"
# Node of another source than Debian brings its headers itself.
if [ -e /usr/include/node/node_api.h ]; then packages=$(echo "$packages" | sed 's/ nodejs libnode-dev//'); fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "this installs with apt-get, as root:" $packages >&2
    exit 2
fi
echo "installing with apt-get:" $packages
apt-get update -qq || true
# Unquoted: many words.
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
