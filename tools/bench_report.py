#!/usr/bin/env python3
"""Run the benchmarks; write what they print as one file of JSON lines and as one page of HTML.

    tools/bench_report.py --build BUILD [--quick] [--only TEXT] [--out BUILD/bench]    run, then write both
    tools/bench_report.py --from bench.jsonl --out OUT                                 the page again
    tools/bench_report.py --from bench.jsonl --update PAGE.md                          tables of a document

A benchmark prints tables: a title, columns that end where their headings end, a name at the start of each
row. Each figure becomes one line: suite, section, row, column, value, unit (times in nanoseconds), and the
text as it was printed. A document's tables stand between <!-- bench: suite, part of the title, columns -->
and <!-- end -->."""
import argparse
import datetime
import html
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Name, command, and what makes it quick. The order is that of the page.
SUITES = [("commit", "bench/commit_bench", ["--quick"]), ("alloc", "bench/alloc_bench", ["--quick"]),
          ("malloc", "bench/malloc_suite", ["--quick"]), ("fragment", "bench/fragment_bench", []),
          ("open", "bench/open_bench", ["--quick"]), ("live", "bench/live_bench", ["--tiny"]),
          ("arena", "bench/arena_bench", []), ("json", "bench/json_bench", []),
          ("collect", "bench/collect_bench", ["--max=100000", "--items=100000"]),
          ("compat", "bench/compat_bench", []), ("cxx", "bench/cxx_bench", [])]
NANOSECONDS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
CELL = re.compile(r"^(-?[\d,]+(?:\.\d+)?)(?:\s?(ns|us|ms|s|x|%|[kMG]i?B(?:/s)?|GB/s|bytes))?(?:\s.*)?$")
CONTENDERS = ("everheap", "memory", "heap", "ours")


# ---- reading what a benchmark printed --------------------------------------------------------------


def tokens(line):
    """(start, end, text) of what two spaces or more separate."""
    return [(m.start(), m.end(), m[0]) for m in re.finditer(r"\S+(?: \S+)*", line)]


def number(text):
    """(value, unit) of a cell, or None."""
    match = CELL.match(text)
    if not match:
        return None
    value, unit = float(match[1].replace(",", "")), match[2] or ""
    if unit in NANOSECONDS:
        return value * NANOSECONDS[unit], "ns"
    return value, unit


def heading(lines, start, end, index):
    """The words above a cell, from the lines of headings: those that end where it ends, or lie over it."""
    words = []
    for line in lines:
        above = [t for t in tokens(line) if abs(t[1] - end) <= 1] or [
            t for t in tokens(line) if t[0] <= (start + end) // 2 <= t[1]]
        words += [t[2] for t in above[-1:]]
    if not words and lines:  # one heading over several cells
        words = [t[2] for t in tokens(lines[-1]) if t[1] >= end - 1][:1]
    return " ".join(words) or f"column {index + 1}"


def figures(suite, output):
    """Yield one record for each figure, and one for what the figures depend on."""
    section, headings, about, title = "", [], {}, suite
    for line in output.splitlines():
        row = tokens(line)
        if not row:
            headings = []
            continue
        cells = [(s, e, t, number(t)) for s, e, t in row[1:]]
        if line.startswith("# "):
            title = line[2:]
        elif line.startswith("## "):
            section, headings = line[3:], []
        elif line.startswith("To repeat"):
            about["command"] = line.partition("then ")[2]
        elif not section and len(row) == 2 and line.startswith("  ") and row[1][0] < 32:
            about[row[0][2]] = row[1][2]
        elif any(n for *_, n in cells):
            kept, seen = [h for h in headings if h], {}
            for index, (start, end, text, value) in enumerate(cells):
                if not value:
                    continue
                column = heading(kept, start, end, index)
                seen[column] = seen.get(column, 0) + 1
                if seen[column] > 1:
                    column += f" ({seen[column]})"
                yield {"suite": suite, "section": section or title, "row": row[0][2], "column": column,
                       "value": value[0], "unit": value[1], "text": text}
        elif not line.startswith(" ") and len(row) == 1:
            if about:
                section = line.split(": ")[0].rstrip(":")
            else:
                title = line
            headings = []
        else:
            headings.append(line)
    yield {"suite": suite, "title": title, "about": about}


def run(arguments):
    """Run each suite that was built; what failed is told and left out."""
    records = []
    for suite, program, quick in SUITES:
        path = pathlib.Path(arguments.build) / program
        if arguments.only not in suite or not path.exists():
            continue
        print(f"{suite} ...", flush=True)
        done = subprocess.run([str(path), *(quick if arguments.quick else [])], cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(done.stdout, flush=True)
        if done.returncode:
            print(f"{suite}: status {done.returncode}, left out", flush=True)
            continue
        records += figures(suite, done.stdout)
    return records


# ---- the page ---------------------------------------------------------------------------------------

STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
h2 { border-top: 1px solid #ccc; padding-top: 1em; } h3 { font-weight: 600; margin-top: 2em; }
table { border-collapse: collapse; } th, td { padding: 2px 10px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 1px solid #999; vertical-align: bottom;
white-space: normal; } tr.ours td { background: #fdf3e1; } .about { color: #666; font-size: 13px; }
svg text { font: 12px sans-serif; } nav a { margin-right: 1em; }
@media (prefers-color-scheme: dark) { body { background: #1b1b1b; color: #ddd; } tr.ours td { background: #3a2f1a; }
svg text { fill: #ddd; } }
"""


def grid(records):
    """(rows, columns, {(row, column): record}) in the order of first appearance."""
    rows, columns, cells = [], [], {}
    for r in records:
        rows += [r["row"]] if r["row"] not in rows else []
        columns += [r["column"]] if r["column"] not in columns else []
        cells.setdefault((r["row"], r["column"]), r)
    return rows, columns, cells


def is_ours(name):
    return name.split(",")[0].split(" ")[0] in CONTENDERS


def chart(records):
    """Bars of one figure for each contender: of columns for each row where contenders are columns, else of
    the first column of times (the median, if there is one)."""
    rows, columns, cells = grid(records)
    ratio = {r["column"] for r in records if r["unit"] == "x"}
    if any(is_ours(c) for c in columns):
        contenders = [c for c in columns if c not in ratio]
        bars = [(row, c, cells[row, c]) for row in rows[:40] for c in contenders if (row, c) in cells]
    else:
        timed = [c for c in columns if any(cells.get((r, c), {}).get("unit") == "ns" for r in rows)]
        best = [c for c in timed if "p50" in c or "median" in c] or timed or [c for c in columns if c not in ratio]
        if not best:
            return ""
        bars = [("", row, cells[row, best[0]]) for row in rows if (row, best[0]) in cells]
    bars = [b for b in bars if b[2]["value"] > 0]
    if len(bars) < 2:
        return ""
    out, y, group = [], 0, None
    most = {}
    for name, _, r in bars:
        most[name] = max(most.get(name, 0), r["value"])
    for name, contender, r in bars:
        if name and name != group:
            y += 8
            out.append(f'<text x="0" y="{y + 12}">{html.escape(name)}</text>')
            group = name
        width = 340 * r["value"] / most[name]
        colour = "#e8a13c" if is_ours(contender) else "#8fa9bd"
        out.append(f'<text x="395" y="{y + 12}" text-anchor="end">{html.escape(contender[:40])}</text>'
                   f'<rect x="400" y="{y + 2}" width="{width:.1f}" height="12" fill="{colour}"/>'
                   f'<text x="{405 + width:.1f}" y="{y + 12}">{html.escape(r["text"])}</text>')
        y += 16
    return f'<svg viewBox="0 0 860 {y + 4}" width="860" role="img">{"".join(out)}</svg>'


def table(records):
    rows, columns, cells = grid(records)
    head = "".join(f"<th>{html.escape(c)}</th>" for c in ["", *columns])
    body = "".join(
        f'<tr{" class=ours" if is_ours(row) else ""}><td>{html.escape(row)}</td>' + "".join(
            f'<td>{html.escape(cells[row, c]["text"]) if (row, c) in cells else ""}</td>' for c in columns)
        + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def page(records):
    suites = list(dict.fromkeys(r["suite"] for r in records))
    out = [f"<!doctype html><html lang=en><meta charset=utf-8><title>everheap: benchmarks</title><style>{STYLE}"
           "</style><h1>everheap: benchmarks</h1><p class=about>Made by <code>make bench</code>, "
           f"{datetime.date.today()}. Orange is everheap; a bar is as long as its figure, against the longest of "
           "its group.</p><nav>" + "".join(f'<a href="#{s}">{s}</a>' for s in suites) + "</nav>"]
    for suite in suites:
        mine = [r for r in records if r["suite"] == suite]
        about = next((r for r in mine if "about" in r), {"title": suite, "about": {}})
        out.append(f'<h2 id="{suite}">{html.escape(about["title"])}</h2><p class=about>' + "<br>".join(
            f"{html.escape(k)}: {html.escape(v)}" for k, v in about["about"].items()) + "</p>")
        for section in dict.fromkeys(r["section"] for r in mine if "section" in r):
            part = [r for r in mine if r.get("section") == section]
            out.append(f"<h3>{html.escape(section)}</h3>{chart(part)}<details><summary>figures</summary>"
                       f"{table(part)}</details>")
    return "\n".join(out) + "</html>\n"


# ---- a document's tables ----------------------------------------------------------------------------


def update(path, records):
    """Make anew each table between its marks for which there are figures."""
    def made(match):
        suite, title, *wanted = [part.strip() for part in match[1].split(",")]
        part = [r for r in records if r["suite"] == suite and title in r.get("section", "")]
        if not part:
            return match[0]
        rows, columns, cells = grid([r for r in part if r["section"] == part[0]["section"]])
        columns = [c for c in columns if not wanted or any(w in c for w in wanted)]
        lines = [["", *columns], ["---"] * (len(columns) + 1)]
        lines += [[row, *(cells[row, c]["text"] if (row, c) in cells else "" for c in columns)] for row in rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"<!-- bench:{match[1]}-->\n{text}\n<!-- end -->"

    text = path.read_text()
    path.write_text(re.sub(r"<!-- bench:([^>]*?)-->.*?<!-- end -->", made, text, flags=re.S))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="suites whose name has this text")
    parser.add_argument("--from", dest="source", help="figures of an earlier run")
    parser.add_argument("--out", default="build/bench")
    parser.add_argument("--update", help="a document whose tables are made anew")
    arguments = parser.parse_args()
    if arguments.source:
        records = [json.loads(line) for line in open(arguments.source, encoding="utf-8")]
    else:
        records = run(arguments)
    if arguments.update:
        update(pathlib.Path(arguments.update), records)
        return 0
    lines, report = pathlib.Path(f"{arguments.out}.jsonl"), pathlib.Path(f"{arguments.out}.html")
    if not arguments.source:
        lines.write_text("".join(json.dumps(r) + "\n" for r in records))
    report.write_text(page(records))
    print(f"{sum('value' in r for r in records)} figures: {lines}, {report}")
    return int(not records)


if __name__ == "__main__":
    sys.exit(main())
