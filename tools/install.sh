#!/bin/sh
# install.sh -- copy what was built to where it is found: headers, libraries, the command, pkg-config and
# CMake files, and what there is of man pages and completions. With --remove: take those away again.
# Told by the environment: BUILD, VERSION, DESTDIR, prefix, bindir, includedir, libdir, datadir, mandir,
# zshdir, preloaddir.
set -eu
action=${1:-copy}
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT

put() # mode file target
{
    if [ "$action" = --remove ]; then
        rm -f "$DESTDIR$3"
    else
        mkdir -p "$(dirname "$DESTDIR$3")"
        install -m "$1" "$2" "$DESTDIR$3"
    fi
}

put_link() # to target
{
    if [ "$action" = --remove ]; then rm -f "$DESTDIR$2"; else ln -sf "$1" "$DESTDIR$2"; fi
}

fill_in() # template: with @NAME@ filled in
{
    sed -e "s|@prefix@|$prefix|" -e "s|@includedir@|$includedir|" -e "s|@libdir@|$libdir|" \
        -e "s|@VERSION@|$VERSION|" -e "s|@MAJOR@|${VERSION%%.*}|" -e "s|@MINOR@|$minor|" \
        -e "s|@INCLUDE_FROM_LIB@|$(realpath -m --relative-to="$libdir" "$includedir")|" "$1"
}

minor=${VERSION#*.}
minor=${minor%%.*}
for file in include/everheap.h include/everheap.hpp include/everheap/*; do
    put 644 "$file" "$includedir/${file#include/}"
done
for file in compat/*; do put 644 "$file" "$includedir/everheap/$file"; done

put 644 "$BUILD/libeverheap.a" "$libdir/libeverheap.a"
put 755 "$BUILD/libeverheap.so" "$libdir/libeverheap.so.$VERSION"
put_link "libeverheap.so.$VERSION" "$libdir/libeverheap.so.0"
put_link libeverheap.so.0 "$libdir/libeverheap.so"
put 755 "$BUILD/libeverheap-malloc.so" "$preloaddir/libeverheap-malloc.so"
put 755 "$BUILD/everheap" "$bindir/everheap"

for folder in "$BUILD"/pages/man?; do
    target=$DESTDIR$mandir/${folder##*/}
    if [ "$action" = --remove ]; then
        (cd "$folder" && ls) | (cd "$target" 2>/dev/null && xargs rm -f)
    else
        mkdir -p "$target"
        cp -P "$folder"/* "$target/"
    fi
done
put 644 "$BUILD/pages/everheap.bash" "$datadir/bash-completion/completions/everheap"
put 644 "$BUILD/pages/_everheap" "$zshdir/_everheap"
put 644 "$BUILD/pages/everheap.fish" "$datadir/fish/vendor_completions.d/everheap.fish"

for file in everheap.pc everheapConfig.cmake everheapConfigVersion.cmake; do
    fill_in "tools/$file.in" >"$generated/$file"
done
put 644 "$generated/everheap.pc" "$libdir/pkgconfig/everheap.pc"
for file in everheapConfig.cmake everheapConfigVersion.cmake; do
    put 644 "$generated/$file" "$libdir/cmake/everheap/$file"
done

if [ "$action" = --remove ]; then
    for folder in "$includedir/everheap/compat" "$includedir/everheap" "$libdir/cmake/everheap"; do
        rmdir "$DESTDIR$folder" 2>/dev/null || true
    done
    echo "removed everheap $VERSION from $DESTDIR$prefix"
else
    echo "installed everheap $VERSION in $DESTDIR$prefix"
fi
