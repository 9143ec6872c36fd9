#!/usr/bin/env python3
"""Check the benchmarks' report with a small run of one of them. Usage: check_report.py BUILD"""
import html
import json
import pathlib
import subprocess
import sys
import tempfile

import bench_report
import checking

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    check = checking.Checker()
    count = check.count
    build = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(dir=build) as scratch:
        out = pathlib.Path(scratch) / "report"
        done = subprocess.run([sys.executable, "tools/bench_report.py", "--build", build, "--quick", "--only",
                               "live", "--out", out], cwd=ROOT, text=True, capture_output=True)
        count(done.returncode == 0, done.stdout + done.stderr)
        records = [json.loads(line) for line in pathlib.Path(f"{out}.jsonl").read_text().splitlines()]
        figures = [r for r in records if "value" in r]
        attach = [r for r in figures if r["row"].startswith("attach") and r["column"] == "median"]
        count(len(attach) == 1 and attach[0]["unit"] == "ns" and 1e3 < attach[0]["value"] < 1e9,
              f"attaching: {attach}")
        for record in figures:
            count(record["text"] in done.stdout and record["row"] in done.stdout, f"not printed: {record}")
        about = next(r["about"] for r in records if "about" in r)
        count({"processor", "memory", "kernel", "command"} <= set(about), f"it depends on {set(about)}")
        page = pathlib.Path(f"{out}.html").read_text()
        # A difference of two times may come out below nothing, which no plot shows.
        for section in {r["section"] for r in figures if all(
                f["value"] > 0 for f in figures if f["section"] == r["section"])}:
            count(f"<h3>{html.escape(section)}</h3><svg" in page, f"no plot of {section}")
        count("http" not in page.replace("http://www.w3.org", ""), "the page needs something from elsewhere")
        document = pathlib.Path(scratch) / "page.md"
        document.write_text("before\n<!-- bench: live, a live heap, median -->\nold\n<!-- end -->\nafter\n")
        bench_report.update(document, records)
        text = document.read_text()
        count(f"| {attach[0]['text']} |" in text and "old" not in text and "worst" not in text and
              text.endswith("<!-- end -->\nafter\n"), f"the document became\n{text}")
    return check.close()


if __name__ == "__main__":
    sys.exit(main())
