#!/usr/bin/env python3
"""Run the tests and close with one line, `N passed, N failed`. Exit status 1 if anything failed.

Each test binary closes with `N passed, N failed, N skipped`; one that does not (it crashed, hung or
was not built) counts as one failure. Binaries run side by side, one per processor."""
import argparse
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT_SECONDS = 300
CLOSING = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)
THREADS = re.compile(r"pthread_create|thread_start|evh_enter|std::thread")
printing = threading.Lock()


class Result:
    def __init__(self, name, passed, failed, skipped, seconds, output):
        self.name, self.passed, self.failed, self.skipped = name, passed, failed, skipped
        self.seconds, self.output = seconds, output

    def show(self):
        with printing:
            skipped = f", {self.skipped} skipped" if self.skipped else ""
            print(f"{self.name:<28} {self.passed:4} passed, {self.failed} failed{skipped}"
                  f"   {self.seconds:.1f} s", flush=True)
            if self.failed or self.skipped:
                for line in self.output.rstrip().splitlines():
                    if not CLOSING.match(line):
                        print("    " + line, flush=True)


def run(command, environment, timeout):
    """Run in a group of its own, which is killed as a whole on a timeout: (status, output)."""
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                          errors="replace", start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            return None, output + f"stopped after {timeout} s\n"


def run_binary(path, environment, timeout, emulator=()):
    flavour = path.parent.parent.name
    name = f"{path.name} ({flavour})" if flavour in ("asan", "tsan") else path.name
    start = time.monotonic()
    if not path.exists():
        return Result(name, 0, 1, 0, 0, f"{path} was not built\n")
    status, output = run([*emulator, str(path)], environment, timeout)
    seconds = time.monotonic() - start
    closing = CLOSING.findall(output)
    if not closing:
        return Result(name, 0, 1, 0, seconds, output + f"ended with {describe(status)}\n")
    passed, failed, skipped = map(int, closing[-1])
    if status != 0 and failed == 0:
        failed, output = 1, output + f"ended with {describe(status)} after its last test\n"
    return Result(name, passed, failed, skipped, seconds, output)


def describe(status):
    if status is None:
        return "a timeout"
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"status {status}"


def run_step(name, command, environment, is_counting=False):
    """Some of these build much: on a slow machine that takes longer than any test."""
    start = time.monotonic()
    status, output = run(command, environment, 4 * TIMEOUT_SECONDS)
    failed = int(status != 0)
    closing = CLOSING.findall(output)
    if is_counting and closing:  # it closes as a binary does
        passed, counted, skipped = map(int, closing[-1])
        return Result(name, passed, max(counted, failed), skipped, time.monotonic() - start, output)
    return Result(name, 1 - failed, failed, 0, time.monotonic() - start, output)


def steps(arguments):
    """What make test runs besides the binaries: (name, command, whether it closes as a binary does). Each
    needs what was built, and builds only what no other does: they run side by side. Long ones first."""
    build, python = arguments.build, sys.executable
    return [
        ("dist", [*arguments.make.split(), "--no-print-directory", "dist"], False),
        *([] if arguments.no_cplusplus else [
            ("C++ libraries", [python, "tools/check_cxx.py", build], True)]),
        ("planted bugs", ["sh", "tools/planted.sh", build], False),
        ("install", [python, "tools/check_install.py", build, arguments.make], True),
        ("lint", [python, "tools/tidy.py"], False),
        ("examples", ["sh", "tools/check_examples.sh", build], False),
        ("command", ["sh", "tools/check_command.sh", build], False),
        ("manual, completions", [python, "tools/check_pages.py", build], True),
        ("documents", [python, "tools/check_docs.py", build], True),
        ("bench report", [python, "tools/check_report.py", build], True),
        ("serve", [python, "tools/check_serve.py", build], True),
        ("ABI", ["sh", "tools/check_abi.sh", build], True),
        ("Python", ["sh", "tools/check_binding.sh", build, "python", python, "tests/bindings/test_python.py"], True),
        ("Node", ["sh", "tools/check_binding.sh", build, "node", "node", "tests/bindings/test_node.js"], True),
    ]


def find_binaries(arguments, flavour):
    sources = sorted((ROOT / "tests").glob("*_test.c"))
    if not arguments.no_cplusplus:
        sources += sorted((ROOT / "tests").glob("*_test.cpp"))
    if flavour == "tsan":
        sources = [s for s in sources
                   if THREADS.search(s.read_text()) or s.stem.startswith("compat_")]
    directory = pathlib.Path(arguments.build) / flavour / "tests"
    return [directory / s.stem for s in sources
            if arguments.only in s.stem and s.stem not in arguments.leave_out.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--build-status", type=int, default=0)
    parser.add_argument("--flavour", default="", help="asan, tsan, cover: the tests alone, so built")
    parser.add_argument("--make", default="make")
    parser.add_argument("--no-cplusplus", action="store_true", help="there is no C++ compiler")
    parser.add_argument("--only", default="", help="binaries whose name contains this")
    parser.add_argument("--emulator", default="", help="runs the tests alone, each under this command")
    parser.add_argument("--leave-out", default="", help="names of binaries, separated by spaces")
    parser.add_argument("--timeout", type=int, default=TIMEOUT_SECONDS)
    arguments = parser.parse_args()

    environment = dict(os.environ)
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    # A sanitizer's run is several times slower: 1200 s. An emulator's is ten times slower: 3600 s.
    timeout = arguments.timeout * (12 if arguments.emulator else 4 if arguments.flavour else 1)
    emulator = arguments.emulator.split()
    environment.setdefault("TSAN_OPTIONS", "halt_on_error=1")
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    binaries = []
    for flavour in arguments.flavour.split(","):
        binaries += find_binaries(arguments, flavour)

    results = []
    if arguments.build_status:
        results.append(Result("build", 0, 1, 0, 0, "something did not compile: see above\n"))
        results[-1].show()
    for flavour in {"asan", "tsan"}.intersection(arguments.flavour.split(",")):
        command = ["sh", "tools/check_examples.sh", f"{arguments.build}/{flavour}", "some"]
        results.append(run_step(f"examples ({flavour})", command, environment, False))
        results[-1].show()
    if arguments.no_cplusplus:
        count = len(list((ROOT / "tests").glob("*_test.cpp")))
        results.append(Result("C++", 0, 0, count, 0, f"no C++ compiler: {count} programs left out\n"))
        results[-1].show()
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        futures = []
        if not arguments.flavour and not arguments.only and not emulator:
            futures += [pool.submit(run_step, name, command, environment, is_counting)
                        for name, command, is_counting in steps(arguments)]
        futures += [pool.submit(run_binary, b, environment, timeout, emulator) for b in binaries]
        for future in concurrent.futures.as_completed(futures):
            future.result().show()
            results.append(future.result())

    failed = sum(r.failed for r in results)
    skipped = sum(r.skipped for r in results)
    passed = sum(r.passed for r in results)
    if arguments.leave_out:
        print(f"left out: {arguments.leave_out}")
    if skipped:
        print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
