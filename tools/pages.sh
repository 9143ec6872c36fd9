#!/bin/sh
# pages.sh -- make the manual's pages and the completions. Usage: pages.sh COMMAND OUT PYTHON
set -eu
command=$1 out=$2 python=$3
rm -rf "$out"
mkdir -p "$out/man1"
"$command" completion bash >"$out/everheap.bash"
"$command" completion zsh >"$out/_everheap"
"$command" completion fish >"$out/everheap.fish"
"$command" manual >"$out/man1/everheap.1"
for name in $("$command" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    "$command" manual "$name" >"$out/man1/everheap-$name.1"
done
if command -v "$python" >/dev/null 2>&1; then
    "$python" tools/make_manual.py "$out/man3"
else
    echo "the manual's pages of functions are left out: there is no $python"
fi
