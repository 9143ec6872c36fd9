#!/usr/bin/env python3
"""Join include/ into OUT/everheap.h and src/ into OUT/everheap.c: the whole library in two files. A third,
OUT/everheap.hpp, is the C++ interface over them.

    tools/amalgamate.py ROOT OUT [--lines]     with --lines, errors name the original files

Layers are taken in the order of src/layers.txt, so every definition precedes its uses. Functions
marked EVH_INTERNAL become static: the object exports evh_* and nothing else. Variables declared with
EVH_INTERNAL_DATA become static tentative definitions, see base.h. Inline functions of our headers may
stay unused without a warning."""
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<(everheap[/.][^>]+)>)')
FEATURE = re.compile(r"^\s*#\s*define\s+_GNU_SOURCE\b")


class Amalgamation:
    def __init__(self, root):
        self.root, self.seen = root, set()
        self.public = (root / "include").resolve()

    def find(self, path, name):
        for base in (path.parent, self.root / "src", self.root / "include"):
            if (base / name).is_file():
                return (base / name).resolve()
        raise SystemExit(f"{path}: cannot find {name}")

    def expand(self, path, is_public):
        """The text of `path` with our own includes replaced by their text, each once."""
        lines = []
        for line in path.read_text().splitlines():
            if FEATURE.match(line):
                continue  # once, before everything
            include = INCLUDE.match(line)
            if not include:
                if path.suffix == ".h" and not is_public:
                    line = re.sub("^static inline ", "EVH_INTERNAL inline ", line)
                lines.append(line)
                continue
            name = include[1] or include[2]
            target = self.find(path, name)
            if target in self.seen or (self.public in target.parents and not is_public):
                continue
            self.seen.add(target)
            lines += [f"/* ---- {name} ---- */", *self.expand(target, is_public)]
        return lines


def main():
    root, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    with_lines = "--lines" in sys.argv[3:]
    layers = [line.strip() for line in (root / "src/layers.txt").read_text().splitlines()
              if line.strip() and not line.startswith("#")]
    amalgamation = Amalgamation(root)
    header_path = root / "include/everheap.h"
    amalgamation.seen.add(header_path.resolve())
    header = amalgamation.expand(header_path, True)
    cxx_header = ["/* everheap.hpp -- the C++ interface; made by tools/amalgamate.py from include/. */",
                  '#include "everheap.h"',
                  *amalgamation.expand(root / "include/everheap.hpp", True)]
    body = ["/* everheap.c -- the whole library; made by tools/amalgamate.py from src/. */",
            "#ifndef _GNU_SOURCE", "#define _GNU_SOURCE", "#endif",
            "#define EVH_INTERNAL static __attribute__((unused))", '#include "everheap.h"', ""]
    for layer in layers:
        for source in sorted((root / "src" / layer).glob("*.c")):
            name = f"src/{layer}/{source.name}"
            body += [f'#line 1 "{name}"' if with_lines else f"/* ==== {name} ==== */",
                     *amalgamation.expand(source, False), ""]
    out.mkdir(parents=True, exist_ok=True)
    (out / "everheap.h").write_text("\n".join(header) + "\n")
    (out / "everheap.hpp").write_text("\n".join(cxx_header) + "\n")
    (out / "everheap.c").write_text("\n".join(body) + "\n")
    print(f"{out}/everheap.h {len(header)} lines, {out}/everheap.c {len(body)} lines")


if __name__ == "__main__":
    sys.exit(main())
