#!/usr/bin/env python3
"""Branch coverage per layer and file from gcov's data, as a table.

    tools/coverage.py --objects build/objects/cover [--missing FILE]     list FILE's untaken branches

The objects are built with NDEBUG, so assertions are no branches. Lines with NEVER() are left out:
they are beliefs that no test can make false. Branches that only an exception takes do not exist in
C. A test that is killed with SIGKILL leaves no data: what only such a process ran counts as not run.
"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WANTED = {"region": 90, "journal": 90, "heap": 90, "print": 90}


def branches(objects):
    """{source: {(line, index): taken}} over all objects under `objects`; inline functions of a
    header are merged over those that include it."""
    taken = {}
    for notes in sorted(pathlib.Path(objects).glob("src/*/*.gcno")):
        source = ROOT / notes.relative_to(objects).with_suffix(".c")
        if not source.exists() or source.stat().st_mtime > notes.stat().st_mtime:
            print(f"{source.relative_to(ROOT)} changed since the run: left out", file=sys.stderr)
            continue
        done = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", notes],
                              cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"gcov {notes}: {done.stderr}")
        for text in done.stdout.splitlines():
            for file in json.loads(text)["files"]:
                if file["file"].startswith("src/"):
                    add(taken.setdefault(file["file"], {}), file["lines"])
    return taken


def add(taken, lines):
    for line in lines:
        for index, branch in enumerate(line["branches"]):
            if not branch.get("throw"):
                key = (line["line_number"], index)
                taken[key] = taken.get(key, False) or branch["count"] > 0


def without_beliefs(source, taken):
    text = (ROOT / source).read_text().splitlines()
    return {key: hit for key, hit in taken.items() if "NEVER(" not in text[key[0] - 1]}


def show_missing(source, taken):
    text = (ROOT / source).read_text().splitlines()
    for line in sorted({line for (line, _), hit in taken.items() if not hit}):
        missing = [str(index) for (l, index), hit in sorted(taken.items()) if l == line and not hit]
        print(f"{source}:{line}: branch {','.join(missing)}: {text[line - 1].strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", default="build/objects/cover")
    parser.add_argument("--missing", default="")
    arguments = parser.parse_args()
    taken = {s: without_beliefs(s, t) for s, t in branches(arguments.objects).items()}
    if arguments.missing:
        for source in sorted(taken):
            if arguments.missing in source:
                show_missing(source, taken[source])
        return 0

    layers = {}
    print(f"{'file':<36} branches   taken")
    for source in sorted(taken):
        hits, count = sum(taken[source].values()), len(taken[source])
        layer = layers.setdefault(source.split("/")[1], [0, 0])
        layer[0] += hits
        layer[1] += count
        if count:
            print(f"{source:<36} {count:8} {100 * hits / count:6.1f} %")
    low = 0
    print()
    for name, (hits, count) in layers.items():
        percent = 100 * hits / count if count else 100
        below = percent < WANTED.get(name, 0)
        low += below
        print(f"{name:<36} {count:8} {percent:6.1f} %{'   below 90 %' if below else ''}")
    return int(low > 0)


if __name__ == "__main__":
    sys.exit(main())
