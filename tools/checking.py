"""checking.py -- what the checkers share: they count, skip, run commands, and close as a test binary does."""
import os
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Checker:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}

    def count(self, good, message):
        """One thing that was checked; the message is for when it is not as it should be."""
        self.passed += bool(good)
        self.failed += not good
        if not good:
            print(str(message).rstrip()[:4000])
        return bool(good)

    def skip(self, message):
        self.skipped += 1
        print(f"skipped: {message}")

    def has(self, *programs):
        """Whether they are installed; counted as skipped if not."""
        missing = [p for p in programs if not shutil.which(p)]
        if missing:
            self.skip(f"{', '.join(missing)}: not installed")
        return not missing

    def run(self, what, command, **options):
        """Count the command as passed if it ends with status 0. What it printed, or None."""
        done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, **{"env": self.environment, **options})
        good = self.count(done.returncode == 0, f"{what}: status {done.returncode}\n{done.stdout}")
        return done.stdout if good else None

    def close(self):
        """The closing line, and the exit status."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return int(self.failed > 0)
