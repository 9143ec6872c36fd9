#!/usr/bin/env python3
"""Run what the documents show.

    tools/check_docs.py BUILD [PAGE...]     without PAGE: README.md and every page of docs/

The fenced blocks of a page are taken in their order, in one new directory with an installed everheap:

    ```c            a program, or statements with `heap` and `db`: compiled, a program also linked and run
    ```cpp          likewise, in C++17
                    (a line <!-- given: declarations --> before the block declares more)
    ```c NAME       written to the file NAME; so with any other language
    ```sh           run by the shell, which stops at the first failure
    ```output       what the block before printed; `...` stands for any text
    ```python, js   run, where the binding was built
    ```json         parsed
    ```console      shown only, like a block without a language

What is not installed is skipped, and said to be. Closes as a test binary does."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import checking

ROOT = pathlib.Path(__file__).resolve().parent.parent
FENCE = re.compile(r"(?:^<!-- given:([^>]*)-->\n)?^```(\S*) ?([^\n]*)\n(.*?)^```$", re.M | re.S)
C_HEAD = ("#include <everheap.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
          "#include <pthread.h>\n")
CC, CXX = os.environ.get("CC", "cc").split(), os.environ.get("CXX", "c++").split()


class Check(checking.Checker):
    def __init__(self, build, scratch):
        super().__init__()
        self.build, self.scratch = build, scratch
        self.prefix = scratch / "usr"
        self.environment.update(
            PKG_CONFIG_PATH=f"{self.prefix}/lib/pkgconfig",
            LD_LIBRARY_PATH=f"{self.prefix}/lib", PATH=f"{self.prefix}/bin:{os.environ['PATH']}",
            CMAKE_PREFIX_PATH=str(self.prefix), PYTHONPATH=str(build / "python"),
            NODE_PATH=str(build / "node"), PYTHON=sys.executable, LC_ALL="C.UTF-8")

    def install(self):
        self.run("make install", ["make", "--no-print-directory", "-C", ROOT, "install",
                                  f"BUILD={self.build}", f"prefix={self.prefix}"], cwd=ROOT)

    def page(self, path):
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.scratch))
        text, printed = path.read_text(), ""
        for fence in FENCE.finditer(text):
            given, language, name, body = fence.groups()
            place = f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, fence.start()) + 1}"
            if name and language not in ("output", "console", "sh"):
                (folder / name).write_text(body)
            elif language == "output" and printed is None:
                pass  # what would have printed it was skipped, or failed
            elif language == "output":
                pattern = re.escape(body.strip()).replace(r"\.\.\.", ".*?")
                self.count(re.fullmatch(pattern, (printed or "").strip(), re.S),
                           f"{place}: shown is\n{body}printed was\n{printed}")
            else:
                printed = self.block(place, language, body, folder, given or "")

    def block(self, place, language, body, folder, given):
        if language in ("c", "cpp"):
            return self.compile(place, language, body, folder, given)
        if language == "sh":
            needed = [p for p in ("pkg-config", "cmake") if re.search(rf"\b{p}\b", body)]
            missing = [p for p in needed if not shutil.which(p)]
            if missing:
                return self.skip(f"{place}: {missing[0]} is not installed")
            return self.run(place, ["sh", "-eu", "-c", body], cwd=folder, timeout=120)
        if language == "python":
            if not (self.build / "python").exists():
                return self.skip(f"{place}: the binding for Python was not built")
            return self.run(place, [sys.executable, "-c", body], cwd=folder, timeout=120)
        if language == "js":
            if not (self.build / "node").exists():
                return self.skip(f"{place}: the binding for Node was not built")
            return self.run(place, ["node", "-e", body], cwd=folder, timeout=120)
        if language == "json":
            try:
                json.loads(body)
                self.count(True, "")
            except ValueError as error:
                self.count(False, f"{place}: {error}")
        return ""

    def compile(self, place, language, body, folder, given):
        """A program is run; what is none is compiled, at file scope or within a function."""
        compiler = [*CC, "-std=c17"] if language == "c" else [*CXX, "-std=c++17"]
        if not shutil.which(compiler[0]):
            return self.skip(f"{place}: {compiler[0]} is not installed")
        common = [*compiler, "-Wall", "-Wextra", "-Wno-unused", "-Wno-missing-field-initializers",
                  f"-I{self.prefix}/include",
                  f"-I{self.prefix}/include/everheap/compat"]
        source = folder / f"block.{language}"
        if re.search(r"^int main\b", body, re.M):
            source.write_text(body)
            program = folder / "block"
            libraries = [self.prefix / "lib/libeverheap.a", "-pthread"]
            if self.run(place, [*common, "-Werror", source, *libraries, "-o", program], cwd=folder, timeout=120) is None:
                return None
            return self.run(place, [program], cwd=folder, timeout=120)
        head = C_HEAD if language == "c" else C_HEAD + "#include <everheap.hpp>\n#include <vector>\n"
        head += "static evh_heap *heap; static evh_db *db;\n" if language == "c" else \
            "static evh::heap &heap = *(evh::heap *)0;\n"
        head += given.strip() + "\n"
        lines = re.split(r"(?<=\n)\n", body, maxsplit=1)
        around = "%sstatic int block(void)\n{\n%sreturn 0;\n}\n"
        forms = [head + body, around % (head, body)]
        if len(lines) == 2:  # declarations, an empty line, statements
            forms.append(around % (head + lines[0], lines[1]))
        for form in forms:
            source.write_text(form)
            done = subprocess.run([*map(str, common), "-fsyntax-only", str(source)], text=True,
                                  capture_output=True)
            if done.returncode == 0 and not done.stderr:
                break
        self.count(done.returncode == 0 and not done.stderr, f"{place}: {done.stderr[:2000]}")
        return ""


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    pages = [pathlib.Path(p).resolve() for p in sys.argv[2:]] or [
        ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    with tempfile.TemporaryDirectory(dir=build) as scratch:
        check = Check(build, pathlib.Path(scratch))
        check.install()
        for page in pages:
            check.page(page)
        if check.has("doxygen"):
            check.environment["REFERENCE"] = scratch
            check.run("doxygen", ["doxygen", "tools/Doxyfile"], cwd=ROOT)
    return check.close()


if __name__ == "__main__":
    sys.exit(main())
