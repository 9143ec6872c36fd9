#!/usr/bin/env python3
"""Check what is installed, as those who use it do.

    tools/check_install.py BUILD [MAKE]

`make install` and `make uninstall`; programs that find the library by pkg-config, by CMake's
find_package() and as a subdirectory of theirs, in C and C++, each compiled, run, and run again on the
file that it left; one that loads the library while it runs; the symbols that it exports. What is not
installed is skipped, and said to be. Closes as a test binary does: `N passed, N failed, N skipped`."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import checking

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONSUMERS = ROOT / "tests/consumers"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
CC = os.environ.get("CC", "cc").split()
CXX = os.environ.get("CXX", "c++").split()
SHARED_NAME = "libeverheap.so.0"


class Check(checking.Checker):
    def __init__(self, build, make, scratch):
        super().__init__()
        self.build, self.make, self.scratch = build, make, scratch
        self.prefix = scratch / "usr"
        self.libdir = self.prefix / "lib/some-multiarch"
        self.environment.update(PKG_CONFIG_PATH=str(self.libdir / "pkgconfig"),
                                LD_LIBRARY_PATH=str(self.libdir))

    def make_target(self, target, *variables):
        return self.run(f"make {target}", [*self.make, "--no-print-directory", target,
                                           f"BUILD={self.build}", *variables], cwd=ROOT)

    # ---- make install ----

    def install(self):
        """With a prefix; again with DESTDIR, which must not show in what is installed."""
        here = [f"prefix={self.prefix}", f"libdir={self.libdir}"]
        self.make_target("install", *here)
        staged = self.scratch / "staged"
        self.make_target("install", *here, f"DESTDIR={staged}")
        first, second = listing(self.prefix), listing(staged / self.prefix.relative_to("/"))
        self.count(first == second, f"with DESTDIR: {str(first ^ second)[:1000]}")
        for path in staged.rglob("*"):
            if path.suffix in (".pc", ".cmake"):
                self.count("staged" not in path.read_text() and "@" not in path.read_text(),
                           f"{path.name} names DESTDIR, or was not filled in")
        self.make_target("uninstall", *here, f"DESTDIR={staged}")
        left = {name for name in listing(staged) if (staged / name).is_file()}
        self.count(not left, f"make uninstall leaves {str(left)[:1000]}")
        link = self.libdir / "libeverheap.so"
        self.count(link.resolve().name.startswith(SHARED_NAME), f"{link} leads to {link.resolve()}")
        preload = self.libdir / "libeverheap-malloc.so"
        done = subprocess.run(["env", f"LD_PRELOAD={preload}", "EVERHEAP_STATS=1", sys.executable,
                               "-c", ""],
                              capture_output=True, text=True)
        self.count("everheap" in done.stderr, f"a program with {preload} printed {done.stderr}")

    def symbols(self):
        """All that the headers declare is exported, with its version, and nothing else."""
        library = self.libdir / "libeverheap.so"
        output = self.run("readelf", ["readelf", "-dW", library]) or ""
        self.count(f"[{SHARED_NAME}]" in output, f"the soname is not {SHARED_NAME}\n{output}")
        exported = self.run("nm", ["nm", "-D", "--defined-only", "--with-symbol-versions", library])
        names = {line.split()[-1] for line in (exported or "").splitlines() if line.split()[-2] != "A"}
        headers = "".join(p.read_text() for p in (self.prefix / "include/everheap").glob("*.h"))
        headers = re.sub(r"/\*.*?\*/", "", headers, flags=re.S)
        declared = {f"{name}@@EVERHEAP_0" for name in
                    re.findall(r"^EVH_API\s[^;(]*?\b(\w+)\s*\(", headers, re.M)}
        self.count(len(declared) > 200 and names == declared, f"exports: {names ^ declared}")

    # ---- programs that use it ----

    def use(self, what, program, heap="heap"):
        """Run it twice: the second run goes on where the first one ended."""
        path = self.scratch / heap
        first = read_count(self.run(what, [program, path, "word"]), "word")
        second = read_count(self.run(f"{what} again", [program, path, "word"]), "word")
        self.count(first and second == first + 1, f"{what}: counted {first}, then {second}")

    def pkg_config(self):
        if not self.has("pkg-config"):
            return
        flags = self.run("pkg-config", ["pkg-config", "--cflags", "--libs", "everheap"])
        version = self.run("pkg-config", ["pkg-config", "--modversion", "everheap"])
        command = self.run("everheap --version", [self.prefix / "bin/everheap", "--version"])
        self.count(version and command and command.split() == ["everheap", version.strip()],
                   f"pkg-config says {version}, the command {command}")
        flags = (flags or "").split()
        static = (self.run("pkg-config --static", ["pkg-config", "--static", "--libs", "everheap"])
                  or "").replace("-leverheap", "-l:libeverheap.a").split()
        for name, compiler, source, libraries in (
                ("pkgconfig_shared", [*CC, "-std=c17"], "counter.c", flags),
                ("pkgconfig_static", [*CC, "-std=c17"], "counter.c", [*flags[:1], *static]),
                ("pkgconfig_cxx", [*CXX, "-std=c++17"], "counter.cpp", flags)):
            if not self.has(compiler[0]):
                continue
            program = self.scratch / name
            if self.run(name, [*compiler, *WARNINGS, CONSUMERS / source, *libraries, "-o", program]) \
                    is not None:
                self.use(name, program)
        needed = self.run("readelf", ["readelf", "-d", self.scratch / "pkgconfig_shared"]) or ""
        self.count(SHARED_NAME in needed, f"the program does not need {SHARED_NAME}")
        needed = self.run("readelf", ["readelf", "-d", self.scratch / "pkgconfig_static"]) or ""
        self.count("everheap" not in needed, "a static program needs a shared library")

    def loaded(self):
        program = self.scratch / "loaded"
        command = [*CC, "-std=c17", *WARNINGS, f"-I{self.prefix}/include", CONSUMERS / "loaded.c",
                   "-ldl", "-o", program]
        if self.run("loaded.c", command) is None:
            return
        for run in ("run 1\n", "run 2\n"):
            output = self.run("loaded", [program, self.libdir / SHARED_NAME,
                                         self.scratch / "loaded.heap"])
            self.count(output == run, f"loaded printed {output}")

    def cmake(self):
        """A project that finds what make installed, and one that finds what CMake built and installed,
        moved to another place."""
        if not self.has("cmake", CXX[0]):
            return
        self.cmake_consumer("cmake", self.prefix)
        tree, prefix = self.scratch / "cmake-tree", self.scratch / "cmake-usr"
        self.cmake_build("everheap by CMake", ROOT, tree, f"-DCMAKE_INSTALL_PREFIX={prefix}",
                         f"-DCMAKE_INSTALL_LIBDIR=lib/{self.libdir.name}")
        if self.run("cmake --install", ["cmake", "--install", tree]) is None:
            return
        mine, theirs = listing(self.prefix), listing(prefix)
        extra = {n for n in mine - theirs if not re.search(r"-malloc\.so$|^share(/|$)", n)}
        self.count(not theirs - mine and not extra, f"CMake installs otherwise: {theirs - mine}, {extra}")
        exported = [self.run("nm", ["nm", "-D", "--defined-only", "--with-symbol-versions",
                                    f"{p}/lib/{self.libdir.name}/libeverheap.so"]) or str(p)
                    for p in (self.prefix, prefix)]
        names = [{line.split()[-1] for line in text.splitlines()} for text in exported]
        self.count(names[0] == names[1], f"CMake's library exports otherwise: {names[0] ^ names[1]}")
        moved = self.scratch / "moved"
        prefix.rename(moved)
        self.cmake_consumer("cmake-moved", moved)

    def cmake_build(self, what, source, tree, *options):
        configured = self.run(f"{what}: configure", [
            "cmake", "-S", source, "-B", tree, "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O0",
            f"-DCMAKE_C_COMPILER={CC[0]}", f"-DCMAKE_CXX_COMPILER={CXX[0]}", *options])
        return configured is not None and self.run(
            f"{what}: build", ["cmake", "--build", tree, f"-j{os.cpu_count() or 2}"]) is not None

    def cmake_consumer(self, name, prefix):
        tree, folder = self.scratch / name, prefix / "lib" / self.libdir.name / "cmake/everheap"
        if self.cmake_build(name, CONSUMERS / "cmake", tree, f"-Deverheap_DIR={folder}"):
            for program in ("counter_shared", "counter_static", "counter_cxx"):
                self.use(f"{name}/{program}", tree / program)

    def subdirectory(self):
        """The library's sources are part of a project: configured only, the build is the same."""
        if not self.has("cmake"):
            return
        tree = self.scratch / "subdirectory"
        if self.run("subdirectory: configure", [
                "cmake", "-S", CONSUMERS / "subdirectory", "-B", tree, f"-DEVERHEAP_SOURCE={ROOT}"]):
            help_text = self.run("subdirectory: targets", ["cmake", "--build", tree, "--target", "help"])
            self.count(help_text and "everheap_static" in help_text and "everheap_command" not in
                       help_text, f"a subdirectory's targets: {help_text}")


def listing(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def read_count(output, word):
    match = re.fullmatch(rf"everheap \S+: {word} (\d+)\n", output or "")
    return int(match[1]) if match else None


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    make = (sys.argv[2] if len(sys.argv) > 2 else "make").split()
    with tempfile.TemporaryDirectory(dir=build) as scratch:
        check = Check(build, make, pathlib.Path(scratch))
        check.install()
        check.symbols()
        check.pkg_config()
        check.loaded()
        check.cmake()
        check.subdirectory()
    return check.close()


if __name__ == "__main__":
    sys.exit(main())
