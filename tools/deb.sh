#!/bin/sh
# deb.sh -- build the Debian packages from what git knows of this tree, let lintian look at them, unpack
# them, and compile, link and run a program against what they bring. Usage: deb.sh BUILD VERSION
set -eu
build=$(realpath "$1") version=$2
missing=
for program in dpkg-buildpackage dh lintian; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
if [ -n "$missing" ]; then
    echo "missing:$missing (apt-get install build-essential debhelper lintian)" >&2
    exit 2
fi
folder=$build/deb
rm -rf "$folder"
mkdir -p "$folder/everheap-$version" "$folder/root"
git ls-files -z | xargs -0 cp -P --parents -t "$folder/everheap-$version"
(cd "$folder/everheap-$version" && dpkg-buildpackage -us -uc -b >"$folder/log" 2>&1) || {
    tail -40 "$folder/log"
    exit 1
}
cd "$folder"
lintian --fail-on error,warning,info --info --tag-display-limit 0 ./*.changes
for package in ./*.deb; do
    case $package in *dbgsym*) continue ;; esac
    dpkg -x "$package" root
done
libdir=$(dirname "$(find root -name libeverheap.a)")
PKG_CONFIG_SYSROOT_DIR=$folder/root PKG_CONFIG_LIBDIR=$folder/$libdir/pkgconfig
export PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR
# shellcheck disable=SC2046
cc -std=c17 "$OLDPWD/tests/consumers/counter.c" -o counter $(pkg-config --cflags --libs everheap)
LD_LIBRARY_PATH=$libdir ./counter counter.heap word
LD_LIBRARY_PATH=$libdir ./counter counter.heap word | grep -q ' 2$'
root/usr/bin/everheap check counter.heap
ls -- *.deb
