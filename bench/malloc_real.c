/* malloc_real.c -- real programs to run on an allocator, and what they work on. */
#include "malloc_real.h"

#include <stddef.h>

/*
 * Each does the work that it is made for. The inputs are made where it runs, and are the same
 * everywhere.
 */

static const char make_python[] =
    "cat > work.py <<'END'\n"
    "import json, re, random\n"
    "random.seed(1)\n"
    "words = [''.join(random.choices('abcdefghij', k=random.randint(2, 9))) for _ in "
    "range(20000)]\n"
    "text = ' '.join(words)\n"
    "for turn in range(4):\n"
    "    counts = {}\n"
    "    for word in re.findall(r'[a-z]+', text):\n"
    "        counts.setdefault(word, []).append(len(counts))\n"
    "    rows = [{'word': w, 'at': a, 'n': len(a), 'x': {'y': w.upper()}} for w, a in "
    "counts.items()]\n"
    "    text2 = json.dumps(rows)\n"
    "    rows = json.loads(text2)\n"
    "    rows.sort(key=lambda r: (-r['n'], r['word']))\n"
    "class Node:\n"
    "    def __init__(self, k): self.k, self.l, self.r = k, None, None\n"
    "root = Node(0.5)\n"
    "for _ in range(25000):\n"
    "    k, n = random.random(), root\n"
    "    while True:\n"
    "        m = n.l if k < n.k else n.r\n"
    "        if m is None: break\n"
    "        n = m\n"
    "    if k < n.k: n.l = Node(k)\n"
    "    else: n.r = Node(k)\n"
    "print(len(text2), rows[0]['word'])\n"
    "END\n";

static const char make_perl[] =
    "cat > work.pl <<'END'\n"
    "my ($x, %count, @lines) = (1);\n"
    "sub r { $x = ($x * 1103515245 + 12345) & 0x7fffffff; return $x >> 8; }\n"
    "for my $i (1 .. 60000) { push @lines, join ' ', map { 'w' . (r() % 5000) } 1 .. 1 + r() % 8; "
    "}\n"
    "for my $turn (1 .. 3) {\n"
    "    %count = ();\n"
    "    for my $line (@lines) { $count{$_} .= length($line) . ',' for split / /, $line; }\n"
    "    my @sorted = sort { length $count{$b} <=> length $count{$a} || $a cmp $b } keys %count;\n"
    "    @lines = map { my $l = $_; $l =~ s/w(\\d)/v$1/; $l =~ tr/v/w/; $l } @lines;\n"
    "    print \"$sorted[0] \", scalar(@sorted), \"\\n\";\n"
    "}\n"
    "END\n";

static const char make_sqlite[] =
    "cat > work.sql <<'END'\n"
    "create table t (id integer primary key, name text, n integer);\n"
    "with recursive c(x) as (select 1 union all select x + 1 from c where x < 120000)\n"
    "  insert into t select x, printf('name %d of %d', x * 7919 % 100003, x), x * 31 % 977 from "
    "c;\n"
    "create index by_name on t (name);\n"
    "create index by_n on t (n, name);\n"
    "select n, count(*), group_concat(substr(name, 1, 9)) from t group by n having n % 100 = 0;\n"
    "select count(*) from t a join t b on a.id = b.n where a.name > 'name 5';\n"
    "update t set name = name || ' again' where n % 3 = 0;\n"
    "select count(distinct name) from t;\n"
    "delete from t where id % 2 = 0;\n"
    "select json_group_array(json_object('id', id, 'name', name)) from t where id < 9000;\n"
    "END\n";

static const char make_lua[] =
    "cat > work.lua <<'END'\n"
    "local x = 1\n"
    "local function r(n) x = (x * 16807) % 2147483647; return x % n end\n"
    "local sum = 0\n"
    "for turn = 1, 3 do\n"
    "  local t = {}\n"
    "  for i = 1, 60000 do t[i] = {id = i, name = 'n' .. r(50000), list = {i, r(9)}} end\n"
    "  table.sort(t, function(a, b) return a.name < b.name end)\n"
    "  local parts = {}\n"
    "  for i = 1, 20000 do parts[#parts + 1] = t[i].name:upper() .. i end\n"
    "  sum = sum + #table.concat(parts, ',')\n"
    "end\n"
    "print(sum)\n"
    "END\n";

static const char make_gs[] =
    "cat > work.ps <<'END'\n"
    "%!\n"
    "/n 0 def /Times-Roman findfont 9 scalefont setfont\n"
    "1 1 12 { pop newpath\n"
    "  0 1 700 { /i exch def 36 rand 540 mod add 36 rand 700 mod add moveto\n"
    "    i 3 string cvs show rand 600 mod rand 780 mod lineto stroke } for\n"
    "  1 1 40 { /i exch def rand 500 mod rand 700 mod i 0 360 arc\n"
    "    i 40 div 0.5 0.2 setrgbcolor fill } for 0 setgray showpage } for\n"
    "END\n";

static const char make_c[] =
    "awk 'BEGIN { print \"#include <stdio.h>\\n#include <stdlib.h>\\n#include <string.h>\";\n"
    "  for (i = 0; i < 130; i++) printf \"struct s%d { int a[%d]; char *b; struct s%d *next; };\\n"
    "int f%d(struct s%d *s, int n) { int sum = 0; for (int i = 0; i < n; i++) { if (s->a[i %% %d] "
    "> "
    "i) sum += s->a[i %% %d] * %d; else if (s->b) sum ^= (int)strlen(s->b); switch (i %% 7) { case "
    "0: sum++; break; case 3: sum -= %d; break; default: sum *= 3; } } return s->next ? sum + "
    "f%d(s->next, n - 1) : sum; }\\n\", i, i + 1, i, i, i, i + 1, i + 1, i, i, i;\n"
    "  print \"int main(void) { return 0; }\" }' /dev/null > work.c\n";

static const char make_git[] =
    "rm -rf repository && git init -q -b main repository && awk 'BEGIN { srand(1);\n"
    "  for (c = 1; c <= 250; c++) { printf \"commit refs/heads/main\\ncommitter A <a@b> %d "
    "+0000\\ndata 7\\ncommit\\n\", 1600000000 + c;\n"
    "    for (k = 0; k < 4; k++) { f = (c * 7 + k * 13) % 40; text[f] = text[f] \"line \" c \" of "
    "\" "
    "int(rand() * 1000) \" in file \" f \"\\n\"; for (j = 0; j < 12; j++) text[f] = text[f] \"  "
    "more "
    "\" int(rand() * 100000) \"\\n\"; printf \"M 100644 inline d%d/f%d\\ndata %d\\n%s\\n\", f % 5, "
    "f, "
    "length(text[f]), text[f] } } }' /dev/null | git -C repository fast-import --quiet\n";

const struct malloc_real malloc_reals[] = {
    {"python3",
     "words, JSON, a tree; PYTHONMALLOC=malloc",
     make_python,
     {"python3", "work.py"},
     "PYTHONMALLOC=malloc"},
    {"perl", "lines, hashes, sorting", make_perl, {"perl", "work.pl"}, NULL},
    {"sqlite3",
     "tables, indexes, joins, JSON in memory",
     make_sqlite,
     {"sqlite3", ":memory:", ".read work.sql"},
     NULL},
    {"lua5.4", "tables and strings", make_lua, {"lua5.4", "work.lua"}, NULL},
    {"gs",
     "twelve pages as images",
     make_gs,
     {"gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=png16m", "-r72", "-sOutputFile=/dev/null",
      "work.ps"},
     NULL},
    {"gcc", "130 functions with -O2", make_c, {"gcc", "-O2", "-S", "work.c", "-o", "work.s"}, NULL},
    {"git",
     "log -p of 250 commits",
     make_git,
     {"git", "-C", "repository", "--no-pager", "log", "-p", "--stat"},
     NULL},
    {0},
};
