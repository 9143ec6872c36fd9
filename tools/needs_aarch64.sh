#!/bin/sh
# needs_aarch64.sh -- see that a compiler for aarch64, its C library and an emulator of the processor
# are there. Installs them on Debian when it may, saying so first; otherwise says how, and stops.
#   needs_aarch64.sh COMPILER EMULATOR
set -eu
compiler=$1
emulator=$2
packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

is_there()
{
    command -v "$compiler" >/dev/null 2>&1 && command -v "$emulator" >/dev/null 2>&1 || return 1
    printf '#include <pthread.h>\nint main(void) { return 0; }\n' |
        "$compiler" -x c - -o /dev/null 2>/dev/null
}

is_there && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "the tests for aarch64 need $packages: installing them with apt-get install"
    apt-get update -qq || true
    # Unquoted: three words.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
    is_there && exit 0
fi
echo "the tests for aarch64 need: apt-get install $packages" >&2
exit 2
