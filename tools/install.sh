#!/bin/sh
# install.sh -- put what was built under DESTDIR/PREFIX. Usage: install.sh BUILD DESTDIR PREFIX VERSION
set -eu
build=$1 destination=$2 prefix=$3 version=$4
root=$destination$prefix

mkdir -p "$root/include/everheap/compat" "$root/lib/pkgconfig" "$root/bin"
install -m 644 include/everheap.h "$root/include/"
install -m 644 include/everheap/*.h "$root/include/everheap/"
install -m 644 compat/*.h compat/*.hpp "$root/include/everheap/compat/"
install -m 644 "$build/libeverheap.a" "$root/lib/"
install -m 755 "$build/libeverheap.so" "$root/lib/libeverheap.so.$version"
ln -sf "libeverheap.so.$version" "$root/lib/libeverheap.so.0"
ln -sf libeverheap.so.0 "$root/lib/libeverheap.so"
if [ -x "$build/everheap" ]; then install -m 755 "$build/everheap" "$root/bin/"; fi
cat >"$root/lib/pkgconfig/everheap.pc" <<END
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: everheap
Description: A heap that lasts: malloc in one memory-mapped file, with atomic durable commits
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -leverheap
Libs.private: -pthread
END
echo "installed everheap $version in $root"
