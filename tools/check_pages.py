#!/usr/bin/env python3
"""Check that the command's help, manual pages and completions say the same, and that each is sound.

    tools/check_pages.py BUILD

The help of each subcommand against its page and against what bash, zsh and fish complete; all pages
through mandoc's lint; a page for each public function; references that lead to pages. Shells that are
not installed are skipped, and said to be. Closes as a test binary does."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import checking

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = 100

# It takes half a second for each line.
ZSH_LINES = ("everheap ", "everheap json --", "everheap json ", "everheap json get ",
             "everheap json get --name x ", "everheap json load c.heap --from ", "everheap dump c.heap ")
# What zsh's completion offers: in an interactive zsh in a terminal of its own, compadd() prints what it is
# given. After the way of https://github.com/Valodim/zsh-capture-completion.
ZSH_INSIDE = r"""
PS1= RPS1= PROMPT_EOL_MARK=
stty -echo
fpath=(%s $fpath)
autoload -Uz compinit
compinit -u -D
bindkey '^I' complete-word
zstyle ':completion:*' insert-tab false
tell() { print -r -- '<<end>>' }
comppostfuncs=(tell)
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    (( $#hits )) && print -rl -- '<<hit>>'$^hits
    return $(( ! $#hits ))
}
print '<<re''ady>>'
"""
ZSH_OUTSIDE = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'source ./inside'
while zpty -r z line; do [[ $line == *'<<ready>>'* ]] && break; done
zpty -w -n z "$1"$'\t'
while zpty -r z line; do print -r -- "$line"; [[ $line == *'<<end>>'* ]] && break; done
zpty -d z
"""


class Check(checking.Checker):
    def __init__(self, build, scratch):
        super().__init__()
        self.build, self.scratch, self.pages = build, scratch, build / "pages"
        self.command = build / "everheap"

    def output(self, *words, **options):
        return self.run(words, words, **options) or ""

    # ---- what the help says ----

    def read_help(self):
        """{command: (options with short forms, options with values, choices of the first argument)}"""
        listed = re.search(r"^Commands:\n(.*?)\n\n", self.output(self.command, "--help"), re.M | re.S)
        names = re.findall(r"^  (\w+) ", listed[1], re.M)
        found = {}
        for name in names:
            text = self.output(self.command, name, "--help")
            for line in text.splitlines():
                self.count(len(line) <= COLUMNS, f"help of {name}: {len(line)} columns: {line}")
            options = re.findall(r"^  (?:-(\w), |    )--([\w-]+)( [A-Z]+)?", text, re.M)
            forms = {f"--{long}" for _, long, _ in options} | {f"-{s}" for s, _, _ in options if s}
            valued = {f"--{long}" for _, long, value in options if value}
            choices = re.search(r"^\w+ is one of:\n(.*?)\n\n", text, re.M | re.S)
            words = set(re.findall(r"^  (\w+) ", choices[1], re.M)) if choices else set()
            self.count({"--help", "-h"} <= forms, f"the help of {name} has no --help")
            found[name] = forms, valued, words
        return found

    # ---- the manual ----

    def manual(self, commands):
        for name, (forms, _, choices) in commands.items():
            page = (self.pages / f"man1/everheap-{name}.1").read_text()
            told = {f"-{flag}" for flag in re.findall(r"Fl (-?[\w-]+)", page)}
            self.count(told == forms, f"the page of {name} has {told}, its help {forms}")
            told = set(re.findall(r"^\.It Cm (\w+)", page, re.M))
            self.count(told == choices, f"the page of {name} has {told}, its help {choices}")
        main = (self.pages / "man1/everheap.1").read_text()
        told = set(re.findall(r"^\.It Xr everheap-(\w+) 1", main, re.M))
        self.count(told == set(commands), f"everheap(1) has {told}, the help {set(commands)}")

        pages = {p.name: p for p in self.pages.glob("man?/*")}
        for name, path in pages.items():
            for other, section in re.findall(r"^\.(?:It )?Xr (\S+) (\d)", path.read_text(), re.M):
                self.count(f"{other}.{section}" in pages, f"{name} leads to {other}({section})")
        headers = sorted((ROOT / "include/everheap").glob("*.h"))
        for name in self.output("sh", ROOT / "tools/symbols.sh", "list", *headers).split():
            self.count(f"{name}.3" in pages, f"{name} has no page")
        if not self.has("mandoc"):
            return
        done = subprocess.run(["mandoc", "-T", "lint", *map(str, pages.values())], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        complaints = [l for l in done.stdout.splitlines() if "referenced manual not found" not in l]
        self.count(not complaints, "\n".join(complaints[:20]))

    # ---- completions ----

    def shells(self, commands):
        asked = [("everheap ", set(commands) | {"help"})]
        for name, (forms, _, choices) in commands.items():
            asked.append((f"everheap {name} --", {f for f in forms if f.startswith("--")}))
            if choices:
                asked.append((f"everheap {name} ", choices))
        (self.scratch / "a b.heap").write_text("")
        (self.scratch / "c.heap").write_text("")
        files = {"a b.heap", "c.heap"}
        asked += [("everheap info ", files), ("everheap json get ", files), ("everheap digest c.heap ", files),
                  ("everheap json get --name x ", files), ("everheap json load c.heap --from ", files),
                  ("everheap dump c.heap ", set()), ("everheap map --rows ", set())]
        for shell, ask in (("bash", self.bash), ("fish", self.fish), ("zsh", self.zsh)):
            if not self.has(shell):
                continue
            for line, expected in [a for a in asked if shell != "zsh" or a[0] in ZSH_LINES]:
                actual = ask(line)
                wrong = expected ^ actual if not expected <= files or not expected else expected - actual
                self.count(not wrong, f"{shell} completes '{line}' to {sorted(actual)}, "
                           f"expected {sorted(expected)}")

    def bash(self, line):
        words = line.split() + ([""] if line.endswith(" ") else [])
        quoted = " ".join(f"'{w}'" for w in words)
        script = (f"source '{self.pages}/everheap.bash'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
                  "_everheap everheap; printf '%s\\n' \"${COMPREPLY[@]}\"")
        found = {l for l in self.output("bash", "--norc", "-c", script, cwd=self.scratch).splitlines() if l}
        return {f for f in found if f.startswith("--") or not f.startswith("-")} - {"--version", "--help"} \
            if line == "everheap " else found

    def fish(self, line):
        script = f"source '{self.pages}/everheap.fish'; complete -C '{line}'"
        output = self.output("fish", "--no-config", "-c", script, cwd=self.scratch,
                             env=dict(os.environ, HOME=str(self.scratch)))
        return {l.split("\t")[0].replace("\\ ", " ").rstrip("=") for l in output.splitlines() if l}

    def zsh(self, line):
        (self.scratch / "inside").write_text(ZSH_INSIDE % self.pages)
        output = self.output("zsh", "-f", "-c", ZSH_OUTSIDE, "ask", line, cwd=self.scratch, timeout=60,
                             env=dict(os.environ, HOME=str(self.scratch), TERM="dumb"))
        found = set(re.findall(r"<<hit>>([^\r\n]*)", output.replace("\\", "")))
        found = {f.rstrip("=") for f in found} - {"inside"}
        return {f for f in found if f.startswith("--") == line.endswith("--")}


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(build, pathlib.Path(scratch))
        commands = check.read_help()
        check.manual(commands)
        check.shells(commands)
    return check.close()


if __name__ == "__main__":
    sys.exit(main())
