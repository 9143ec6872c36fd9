#!/usr/bin/env python3
"""Run the crash simulator at length; then see that it finds every planted bug.

    tools/crash.py --build build --images 1000000 --plants "1 2 3"

A planted bug is a compile-time switch that removes one step of the protocol (docs/crash-model.md).
The same simulator that must find nothing in the library must fail on each of them."""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

PLANT_TIMEOUT_SECONDS = 300


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--plants", default="")
    arguments = parser.parse_args()
    build = pathlib.Path(arguments.build)
    environment = dict(os.environ, CRASH_IMAGES=str(arguments.images))
    failures = 0

    print(f"crash simulation, {arguments.images} images", flush=True)
    start = time.monotonic()
    status = subprocess.run([build / "tests/crash_test", "-v"], env=environment).returncode
    failures += status != 0
    print(f"{'no violation' if status == 0 else 'VIOLATION'}, {time.monotonic() - start:.0f} s",
          flush=True)

    plants = arguments.plants.split()
    for plant in plants:
        start = time.monotonic()
        try:
            run = subprocess.run([build / f"plant{plant}/tests/crash_test", "--first"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                 errors="replace", timeout=PLANT_TIMEOUT_SECONDS)
            found, output = run.returncode != 0, run.stdout
        except subprocess.TimeoutExpired:
            found, output = False, ""
        failures += not found
        named = re.search(r"FAILED (\w+)", output)
        print(f"planted bug {plant:>2}: {'found' if found else 'NOT FOUND'}"
              f"{' by ' + named[1] if named else ''}, {time.monotonic() - start:.1f} s", flush=True)
    print(f"{len(plants) + 1 - failures} passed, {failures} failed")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
