#!/usr/bin/env python3
"""Check what a compiler does not: layers, sizes, names, assertions, documentation.

    tools/tidy.py            print `file:line: message` for all that is untidy; status 1 if anything is
    tools/tidy.py --stats    also print the size of every layer

The rules are those of CONTRIBUTING.md."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS, FILE_LINES, FUNCTION_LINES, PUBLIC_HEADER_LINES = 100, 1000, 70, 400
# At least; what is left out has none to keep. Layers above the storage are what they have reached.
ASSERTIONS_PER_FUNCTION = {"region": 2.0, "journal": 2.0, "heap": 2.0, "arena": 2.0, "collect": 2.0,
                           "json": 0.8, "db": 0.8}
CODE_FOLDERS = ("include", "src", "tests", "examples", "cli", "bench", "fuzz", "compat", "preload", "bindings")
BANNED = {"sprintf": "snprintf", "strcpy": "memcpy", "strcat": "memcpy", "gets": "fgets",
          "atoi": "strtol", "alloca": "an array", "atomic_thread_fence": "an ordering on the operation",
          "__atomic_thread_fence": "an ordering on the operation"}
C_LIBRARY = {"assert", "ctype", "errno", "float", "inttypes", "limits", "math", "setjmp", "signal",
             "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib",
             "stdnoreturn", "string", "time"}
COMPILER = {"arm_acle", "arm_neon", "cpuid", "immintrin", "nmmintrin", "x86intrin"}

LAYERS = [line.strip() for line in (ROOT / "src/layers.txt").read_text().splitlines()
          if line.strip() and not line.startswith("#")]
complaints = 0


def complain(path, line, message):
    global complaints
    complaints += 1
    print(f"{path.relative_to(ROOT)}:{line}: {message}")


# ---- one file --------------------------------------------------------------------------------------


def check_text(path, lines):
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            complain(path, number, f"{len(line)} columns, limit {COLUMNS}")
        if line != line.rstrip():
            complain(path, number, "trailing space")
        if "\t" in line:
            complain(path, number, "tab")
        for bad, good in BANNED.items():
            if re.search(rf"\b{bad}\s*\(", line):
                complain(path, number, f"{bad} is banned, use {good}")
    if len(lines) > FILE_LINES:
        complain(path, 1, f"{len(lines)} lines, limit {FILE_LINES}")
    if not lines or not re.match(rf"/\* {re.escape(path.name)} -- \S", lines[0]):
        complain(path, 1, f"first line must be `/* {path.name} -- purpose. */`")


def functions(lines):
    """Yield (first line, last line) of each function body: braces alone in the first column."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        if line == "}" and start:
            yield start, number
            start = None


def check_functions(path, lines):
    for start, end in functions(lines):
        if end - start + 1 > FUNCTION_LINES:
            complain(path, start, f"function of {end - start + 1} lines, limit {FUNCTION_LINES}")


def check_layers(path, lines):
    mine = path.relative_to(ROOT / "src").parts[0]
    if mine not in LAYERS:
        complain(path, 1, f"folder {mine} is not in src/layers.txt")
        return
    for number, line in enumerate(lines, 1):
        own = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        system = re.match(r"\s*#\s*include\s*<([^>]+)>", line)
        if own:
            check_own_include(path, number, mine, own[1])
        elif system and not system[1].startswith("everheap"):
            name = system[1].removesuffix(".h")
            if mine != "os" and name not in C_LIBRARY | COMPILER:
                complain(path, number, f"<{system[1]}> belongs in src/os: it is not the C library's")


def check_own_include(path, number, mine, name):
    layer, _, file = name.partition("/")
    if layer == mine:
        return
    if layer not in LAYERS or not file:
        complain(path, number, f'"{name}" is in no layer: include "<layer>/<file>.h"')
    elif LAYERS.index(layer) > LAYERS.index(mine):
        complain(path, number, f"{mine} must not know {layer}: includes point down")
    elif file not in (f"{layer}.h", f"{layer}_layout.h"):
        complain(path, number, f"{name} is private to {layer}; include {layer}/{layer}.h")


def check_public(path, lines):
    if len(lines) > PUBLIC_HEADER_LINES:
        complain(path, 1, f"public header of {len(lines)} lines, limit {PUBLIC_HEADER_LINES}")
    for number, line in enumerate(lines, 1):
        if line.startswith("EVH_API") and not re.search(r"\*/$|^EVH_API.*;$", lines[number - 2]):
            complain(path, number, "public function without a comment")


# ---- all files together --------------------------------------------------------------------------


def check_names(files):
    """The amalgamation is one translation unit: what a .c file keeps to itself needs its own name."""
    seen = {}
    forms = (re.compile(r"^static\s.*?\b(\w+)\s*(?:\(|=|;|\[)"), re.compile(r"^#\s*define\s+(\w+)"),
             re.compile(r"^(?:typedef\s+)?(?:struct|union|enum)\s+(\w+)\s*\{"))
    for path, lines in files:
        if path.suffix != ".c":
            continue
        mine = {}
        for number, line in enumerate(lines, 1):
            line = re.sub(r"__attribute__\(\(.*?\)\)\s*", "", line)
            for form in forms:
                if match := form.match(line):
                    mine.setdefault(match[1], number)
        for name, number in mine.items():
            if name in ("_GNU_SOURCE", "static_assert"):
                continue
            if name in seen:
                complain(path, number, f"{name} is a name in {seen[name].name} too")
            seen.setdefault(name, path)


def check_variables(files):
    """A variable declared with EVH_INTERNAL_DATA is defined with EVH_INTERNAL, which the
    amalgamation turns into static."""
    declared = {}
    for path, lines in files:
        for number, line in enumerate(lines, 1):
            if match := re.match(r"EVH_INTERNAL_DATA\s.*?\b(\w+)(?:\[[^\]]*\])*;", line):
                declared[match[1]] = (path, number)
    for name, (path, number) in declared.items():
        definition = re.compile(rf"^EVH_INTERNAL\s[^(]*\b{name}(\[.*\])?\s*(=|;)", re.MULTILINE)
        if not any(definition.search("\n".join(lines)) for p, lines in files if p.suffix == ".c"):
            complain(path, number, f"{name} has no definition that begins with EVH_INTERNAL")


def count_assertions(lines):
    """(functions, assertions in them, lines of the longest) of one file."""
    count = asserted = longest = 0
    for start, end in functions(lines):
        count += 1
        longest = max(longest, end - start + 1)
        body = "\n".join(lines[start - 1:end])
        asserted += len(re.findall(r"(?<!static_)\b(?:assert|NEVER)\(", body))
    return count, asserted, longest


def check_assertions(files, stats):
    for layer in LAYERS:
        of_layer = [(p, l, *count_assertions(l)) for p, l in files
                    if p.relative_to(ROOT / "src").parts[0] == layer]
        count, asserted = sum(f[2] for f in of_layer), sum(f[3] for f in of_layer)
        average = asserted / count if count else 0.0
        least = ASSERTIONS_PER_FUNCTION.get(layer, 0.0)
        is_low = count and average < least
        if stats:
            print(f"{layer:10} {len(of_layer):3} files {sum(len(f[1]) for f in of_layer):6} lines "
                  f"{count:4} functions, longest {max([0, *(f[4] for f in of_layer)]):3}, "
                  f"{average:.2f} assertions each")
            for path, _, functions_in, asserted_in, _ in of_layer if is_low else []:
                if functions_in:
                    print(f"    {path.name:28} {functions_in:3} functions {asserted_in:3} assertions")
        if is_low:
            complain(ROOT / "src" / layer, 0, f"{average:.2f} assertions per function, "
                     f"at least {least:.1f} are asked for")


def check_headers(paths):
    """Every header compiles alone; the public ones also as C++."""
    compilers = [("c", os.environ.get("CC", "cc").split() + ["-std=c17"], paths)]
    cplusplus = os.environ.get("CXX") or next(
        (c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    public = [p for p in paths if p.relative_to(ROOT).parts[0] in ("include", "compat")]
    compilers[0] = (*compilers[0][:2], [p for p in paths if p.suffix == ".h" and
                                           "compat" not in p.relative_to(ROOT).parts])
    if cplusplus:
        compilers.append(("c++", [cplusplus, "-std=c++17"], public))
    for language, command, headers in compilers:
        if not shutil.which(command[0]):
            continue
        for header in headers:
            done = subprocess.run(
                command + ["-x", language, "-Wall", "-Wextra", "-fsyntax-only", "-I", ROOT / "include",
                           "-idirafter", ROOT / "src", "-"], input=f'#include "{header}"\n', text=True,
                capture_output=True)
            if done.returncode or done.stderr:
                first = next((l for l in done.stderr.splitlines() if "error" in l or "warning" in l),
                             done.stderr.strip()[:200])
                complain(header, 1, f"does not compile alone as {language}: {first}")


def check_function_link(path, number, name, file):
    """The function is defined in that file: a line in the first column that does not end its declaration."""
    form = re.compile(rf"^[A-Za-z].*\b{name}\((?:[^;{{]|\n)*\n?\{{", re.MULTILINE)
    if not form.search(file.read_text()):
        complain(path, number, f"{file.name} has no function {name}()")


def check_documents():
    """Links lead somewhere; a link [`name`](tests/x_test.c) names a test that exists, and a link
    [`name()`](src/x.c) a function that the file defines."""
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        in_code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            in_code ^= line.startswith("```")
            if in_code:
                continue
            for text, target in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", line):
                if re.match(r"\w+:|#", target):
                    continue
                file = (path.parent / target.partition("#")[0])
                if not file.exists():
                    complain(path, number, f"link to {target}, which does not exist")
                elif name := re.match(r"`(\w+)\(\)`$", text):
                    if file.suffix == ".c" or file.is_relative_to(ROOT / "src"):
                        check_function_link(path, number, name[1], file)
                elif name := re.match(r"`(\w+)`$", text):
                    if file.stem.endswith("_test") and f"TEST({name[1]})" not in file.read_text():
                        complain(path, number, f"{target} has no test {name[1]}")


def main():
    stats = "--stats" in sys.argv[1:]
    paths = sorted(p for folder in CODE_FOLDERS for form in ("*.[ch]", "*.[ch]pp")
                   for p in (ROOT / folder).rglob(form))
    files = [(p, p.read_text().splitlines()) for p in paths]
    for path, lines in files:
        check_text(path, lines)
        check_functions(path, lines)
        if path.is_relative_to(ROOT / "src"):
            check_layers(path, lines)
        if path.is_relative_to(ROOT / "include"):
            check_public(path, lines)
    source = [(p, l) for p, l in files if p.is_relative_to(ROOT / "src")]
    check_names(source)
    check_variables(source)
    check_assertions(source, stats)
    check_headers([p for p in paths if p.suffix in (".h", ".hpp") and
                   p.relative_to(ROOT).parts[0] in ("src", "include", "compat")])
    check_documents()
    print(f"{len(files)} files, {complaints} untidy" if complaints else f"{len(files)} files, tidy")
    return int(complaints > 0)


if __name__ == "__main__":
    sys.exit(main())
