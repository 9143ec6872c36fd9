#!/usr/bin/env python3
"""Check the C++ interface with every compiler and standard library that is there.

    tools/check_cxx.py BUILD

Headers without a warning, also without exceptions and in C++20; containers filled by one process and
read by another at another address (tests/cxx/matrix.cpp); what must not compile, and with which
message (tests/cxx/refused.cpp). What is not installed is skipped, and said to be. Closes as a test
binary does: `N passed, N failed, N skipped`."""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import checking

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
COMMON = ["-std=c++17", *WARNINGS, f"-I{ROOT / 'include'}"]
# Name, command. Programs of the first two share a standard library, and so may share files.
COMPILERS = [("g++", ["g++"]), ("clang++", ["clang++"]),
             ("clang++ with libc++", ["clang++", "-stdlib=libc++"])]
DIALECTS = [[], ["-fno-exceptions", "-fno-rtti"], ["-std=c++20"]]
ROUNDS = 4


class Check(checking.Checker):
    def __init__(self, build, scratch):
        super().__init__()
        self.build, self.scratch = build, scratch
        self.compilers = [(name, command) for name, command in COMPILERS if self.works(name, command)]

    def works(self, name, command):
        """Whether the compiler and its standard library are there."""
        if shutil.which(command[0]):
            done = subprocess.run([*command, "-std=c++17", "-x", "c++", "-fsyntax-only", "-"],
                                  input="#include <vector>\n", text=True, capture_output=True)
            if done.returncode == 0:
                return True
        self.skip(f"{name} is not installed")
        return False

    def compile(self, command, arguments):
        done = subprocess.run([*command, *COMMON, *arguments], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def precompiled(self, command, source):
        """The command with what `source` includes compiled beforehand, for speed."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.scratch))
        prefix = folder / "prefix.hpp"
        prefix.write_text("".join(l for l in source.read_text().splitlines(True)
                                  if l.startswith("#include")))
        is_clang = command[0].startswith("clang")
        compiled = folder / ("prefix.pch" if is_clang else "prefix.hpp.gch")
        status, _ = self.compile(command, ["-x", "c++-header", str(prefix), "-o", str(compiled)])
        if status:
            return command  # slower, and the cases show what is wrong
        return [*command, *(["-include-pch", str(compiled)] if is_clang else ["-include", str(prefix)])]

    def headers(self, pool):
        """Every dialect takes the headers and the program, without a warning."""
        jobs = [(f"{name} {' '.join(dialect)}", command, dialect)
                for name, command in self.compilers for dialect in DIALECTS]
        source = str(ROOT / "tests/cxx/refused.cpp")
        for (name, *_), (status, output) in zip(jobs, pool.map(
                lambda job: self.compile(job[1], [*job[2], "-fsyntax-only", "-DREFUSED=0", source]),
                jobs)):
            self.count(status == 0, f"{name}: does not compile:\n{output}")

    def refused(self, pool):
        """Each case fails, with its message."""
        source = ROOT / "tests/cxx/refused.cpp"
        cases = re.findall(r"^#(?:el)?if REFUSED == (\d+) +/\* (.*) \*/$", source.read_text(), re.M)
        compilers = [c for c in self.compilers if c[0] != "clang++"]  # one for each library
        compilers = pool.map(lambda c: (c[0], self.precompiled(c[1], source)), compilers)
        jobs = [(*compiler, *case) for compiler in compilers for case in cases]
        for (name, _, number, words), (status, output) in zip(jobs, pool.map(
                lambda job: self.compile(job[1], ["-fsyntax-only", f"-DREFUSED={job[2]}", str(source)]),
                jobs)):
            messages = "\n".join(l for l in output.splitlines() if "static" in l and "everheap: " in l)
            self.count(status != 0 and words in messages,
                       f"{name}: case {number} of refused.cpp should fail with '{words}':\n{output[:2000]}")

    def matrix(self, pool):
        """Each program goes on with what its predecessor left, another of its library where there is
        one."""
        jobs = [(name, command, self.scratch / f"matrix{i}")
                for i, (name, command) in enumerate(self.compilers)]
        programs = {}
        for (name, _, program), (status, output) in zip(jobs, pool.map(
                lambda job: self.compile(job[1], ["-O2", str(ROOT / "tests/cxx/matrix.cpp"), str(
                    self.build / "libeverheap.a"), "-pthread", "-o", str(job[2])]), jobs)):
            self.count(status == 0, f"{name}: matrix.cpp does not compile:\n{output[:4000]}")
            if status == 0:
                programs[name] = program
        for library, users in (("libstdc++", ["g++", "clang++"]), ("libc++", ["clang++ with libc++"])):
            users = [name for name in users if name in programs]
            if users:
                self.run_rounds(library, users, programs)

    def run_rounds(self, library, users, programs):
        heap = self.scratch / f"{library}.heap"
        output = ""
        for i in range(ROUNDS):
            name = users[i % len(users)]
            done = subprocess.run([programs[name], heap], capture_output=True, text=True)
            output = done.stdout + done.stderr
            self.count(done.returncode == 0 and output.startswith(f"{i + 1} rounds"),
                       f"{library}: run {i + 1}, of {name}: status {done.returncode}\n{output}")
        if "with Boost" not in output:
            self.skip(f"{library}: containers of Boost, which is not installed")


def main():
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(scratch))
        with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
            check.headers(pool)
            check.refused(pool)
            check.matrix(pool)
    return check.close()


if __name__ == "__main__":
    sys.exit(main())
