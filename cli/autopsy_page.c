/* autopsy_page.c -- the page that `everheap autopsy --html` writes: around the data. */
#include "autopsy.h"

#include <stdlib.h>

/*
 * All of it is in the page: no fetches, no fonts. What comes from the heap is data in JSON, every
 * '<' of it escaped, and is only ever shown as text: a heap's content cannot become markup.
 */
/* clang-format off */
const char *const autopsy_page[] = {
    "<!DOCTYPE html>\n",
    "<html lang=\"en\"><head><meta charset=\"utf-8\"><title>everheap autopsy</title>\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<style>\n",
    ":root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2a78d6; }\n",
    "body { font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: "
    "1180px; padding: 16px; }\n",
    "h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: "
    "15px; margin: 24px 0 6px; }\n",
    ".facts { display: flex; flex-wrap: wrap; gap: 8px; margin: 12px 0; }\n",
    ".fact { border: 1px solid var(--line); border-radius: 6px; padding: 6px 12px; }\n",
    ".fact b { display: block; font-size: 17px; font-weight: 600; } .fact.bad b { "
    "color: #c22; }\n",
    ".bar { display: flex; flex-wrap: wrap; gap: 12px; align-items: center; margin: "
    "6px 0; }\n",
    "#map { border: 1px solid var(--line); display: block; cursor: crosshair; "
    "max-width: 100%; }\n",
    "#legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 8px 0; }\n",
    "#legend i { display: inline-block; width: 12px; height: 12px; margin-right: "
    "5px; border-radius: 2px; vertical-align: -1px; }\n",
    "#cell { min-height: 22px; font-family: ui-monospace, monospace; font-size: 13px; }\n",
    "table { border-collapse: collapse; width: 100%; } th, td { text-align: right; "
    "padding: 3px 8px; border-bottom: 1px solid var(--line); }\n",
    "th { cursor: pointer; user-select: none; } th:first-child, td:first-child, .l { "
    "text-align: left; overflow-wrap: anywhere; }\n",
    "tbody tr:hover { background: var(--soft); } tr.on td { background: #2a78d633; }\n",
    "#tree { font-family: ui-monospace, monospace; font-size: 13px; overflow-x: "
    "auto; } #tree div { white-space: pre; }\n",
    "#tree .o { color: var(--accent); } .note { opacity: .7; } input { width: 240px; }\n",
    "</style></head><body>\n",
    "<h1 id=\"title\"></h1><div id=\"who\" class=\"note\"></div><div id=\"facts\" "
    "class=\"facts\"></div>\n",
    "<h2>Heap map</h2>\n",
    "<div class=\"bar\"><label>colour by <select id=\"by\"><option "
    "value=\"kind\">type</option><option value=\"age\">age</option><option "
    "value=\"full\">fragmentation</option><option "
    "value=\"orphan\">orphans</option></select></label>\n",
    "<label>size of a cell <input id=\"zoom\" type=\"range\" min=\"2\" max=\"24\" "
    "value=\"8\"></label><span id=\"scale\" class=\"note\"></span></div>\n",
    "<canvas id=\"map\"></canvas><div id=\"cell\"></div><div id=\"legend\"></div>\n",
    "<h2>Kinds of blocks</h2><div class=\"note\">a click shows where they "
    "are</div><table id=\"kinds\"></table>\n",
    "<h2>Roots</h2><table id=\"roots\"></table>\n",
    "<h2 id=\"changes-title\">Changes</h2><table id=\"changes\"></table>\n",
    "<h2>Orphans</h2><table id=\"orphans\"></table>\n",
    "<h2>Dangling references</h2><table id=\"dangling\"></table>\n",
    "<h2>Last commits</h2><table id=\"commits\"></table>\n",
    "<h2>Below the roots</h2><div class=\"bar\"><input id=\"find\" "
    "placeholder=\"find\"></div><div id=\"tree\"></div>\n",
    "<h2>Last operations</h2><table id=\"operations\"></table>\n",
    "<script type=\"application/json\" id=\"data\">",
    NULL,
    "</script>\n",
    "<script>\n",
    "\"use strict\";\n",
    "const data = JSON.parse(document.getElementById(\"data\").textContent);\n",
    "const $ = id => document.getElementById(id);\n",
    "const count = n => Number(n).toLocaleString(\"en\");\n",
    "const hex = n => \"0x\" + Number(n).toString(16);\n",
    "function size(n) { const u = [\"bytes\", \"KiB\", \"MiB\", \"GiB\", \"TiB\"]; let i = "
    "0; n = Number(n);\n",
    "  while (n >= 1024 && i < 4) { n /= 1024; i++; } return (i ? n.toFixed(1) : n) "
    "+ \" \" + u[i]; }\n",
    "const time = ns => ns ? new Date(Number(ns) / 1e6).toISOString() : \"not known\";\n",
    "const colours = [\"#2a78d6\", \"#e0783c\", \"#3a9d5d\", \"#b1509c\", \"#c9a227\", "
    "\"#5b5fc7\", \"#2a9d9d\", \"#b04a4a\", \"#7a8f3c\", \"#8a6d5a\"];\n",
    "const ages = [\"#d73027\", \"#fc8d59\", \"#fee08b\", \"#91bfdb\", \"#4575b4\"];\n",
    "const order = data.kinds.map((k, i) => i).sort((a, b) => data.kinds[b].bytes - "
    "data.kinds[a].bytes);\n",
    "const place = []; order.forEach((k, i) => place[k] = i);\n",
    "const kindColour = k => place[k] < colours.length ? colours[place[k]] : \"#999\";\n",
    "let chosen = -1;\n",
    "$(\"title\").textContent = data.path;\n",
    "$(\"who\").textContent = (data.is_live ? \"live heap\" : \"durable heap, commit \" + "
    "count(data.commit_sequence)) +\n",
    "  (data.is_in_use ? \", in use\" : \", not in use\") + (data.writer_process ? \"; "
    "opened by process \" + data.writer_process + \" at \" + time(data.opened_ns) : \"\") +\n",
    "  (data.changed_ns ? \"; last commit \" + time(data.changed_ns) : \"\") + "
    "(data.damage ? \"; DAMAGED: \" + data.damage : \"\");\n",
    "for (const [name, value, bad] of [[\"heap\", size(data.heap_bytes)], [\"blocks\", "
    "count(data.blocks)], [\"in blocks\", size(data.block_bytes)],\n",
    "  [\"of known types\", count(data.typed)], [\"reached\", count(data.reached)], "
    "[\"orphans\", count(data.orphans) + \", \" + size(data.orphan_bytes), data.orphans "
    "> 0],\n",
    "  [\"dangling\", count(data.dangling), data.dangling > 0]]) {\n",
    "  const box = document.createElement(\"div\"); box.className = bad ? \"fact bad\" : "
    "\"fact\";\n",
    "  const b = document.createElement(\"b\"); b.textContent = value; box.append(b, "
    "name); $(\"facts\").append(box); }\n",
    "function table(id, heads, rows, click) {\n",
    "  const table = $(id), head = table.createTHead().insertRow(), body = "
    "table.createTBody();\n",
    "  heads.forEach((h, i) => { const th = document.createElement(\"th\"); "
    "th.textContent = h; th.onclick = () => {\n",
    "    const list = [...body.rows], down = th.dataset.down = th.dataset.down === "
    "\"1\" ? \"\" : \"1\";\n",
    "    list.sort((a, b) => { const x = a.cells[i].dataset.key, y = "
    "b.cells[i].dataset.key, n = x - y;\n",
    "      return (isNaN(n) ? x.localeCompare(y) : n) * (down ? -1 : 1); }); "
    "body.append(...list); }; head.append(th); });\n",
    "  if (!rows.length) { body.insertRow().insertCell().textContent = \"none\"; return; }\n",
    "  rows[0].forEach(([, key], i) => { if (typeof key === \"string\") "
    "head.cells[i].className = \"l\"; });\n",
    "  rows.forEach((row, i) => { const tr = body.insertRow(); row.forEach(([text, "
    "key]) => { const td = tr.insertCell();\n",
    "    td.textContent = text; td.dataset.key = key ?\? text; if (typeof key === "
    "\"string\" && isNaN(key)) td.className = \"l\"; });\n",
    "    if (click) tr.onclick = () => click(i, tr); }); }\n",
    "const name = k => data.kinds[k] ? data.kinds[k].name : \"?\";\n",
    "table(\"kinds\", [\"kind\", \"blocks\", \"bytes\", \"orphans\", \"orphan bytes\"], "
    "data.kinds.map(k => [[k.name, k.name], [count(k.blocks), k.blocks],\n",
    "  [count(k.bytes), k.bytes], [count(k.orphans), k.orphans], "
    "[count(k.orphan_bytes), k.orphan_bytes]]), (i, tr) => {\n",
    "  for (const other of tr.parentNode.rows) other.className = \"\"; chosen = chosen "
    "=== i ? -1 : i; if (chosen === i) tr.className = \"on\"; draw(); });\n",
    "table(\"roots\", [\"root\", \"offset\", \"kind\", \"blocks\", \"bytes\"], "
    "data.roots.map(r => [[r.name, r.name + \" \"], [hex(r.offset), r.offset],\n",
    "  [name(r.kind), name(r.kind)], [count(r.blocks), r.blocks], [count(r.bytes), "
    "r.bytes]]));\n",
    "if (data.since) $(\"changes-title\").textContent = \"Changes since commit \" + "
    "count(data.since);\n",
    "table(\"changes\", [\"root\", \"kind\", \"made\", \"freed\", \"changed\", \"changed "
    "bytes\"], data.changes.map(c => [[c.root, c.root + \" \"], [name(c.kind), "
    "name(c.kind)],\n",
    "  [count(c.made), c.made], [count(c.freed), c.freed], [count(c.changed), "
    "c.changed], [count(c.changed_bytes), c.changed_bytes]]));\n",
    "table(\"orphans\", [\"offset\", \"bytes\", \"kind\", \"made at\"], "
    "data.orphan_list.map(o => [[hex(o.offset), o.offset], [count(o.size), o.size], "
    "[name(o.kind), name(o.kind)], [o.site, o.site + \" \"]]));\n",
    "table(\"dangling\", [\"object\", \"field\", \"value\", \"why\"], "
    "data.dangling_list.map(d => [[hex(d.offset), d.offset], [name(d.kind) + \".\" + "
    "d.field, d.field],\n",
    "  [hex(d.value), d.value], [d.why, d.why]]));\n",
    "table(\"commits\", [\"commit\", \"time\", \"pages\", \"bytes changed\"], "
    "data.commits.map(c => [[count(c.sequence), c.sequence], [time(c.time_ns), "
    "c.time_ns], [count(c.pages), c.pages], [count(c.changed_bytes), c.changed_bytes]]));\n",
    "table(\"operations\", [\"number\", \"operation\", \"address\", \"bytes\", \"site\"], "
    "data.operations.map(o => [[count(o.number), o.number], [o.operation, "
    "o.operation], [hex(o.address), o.address], [count(o.size), o.size], [o.site, "
    "o.site + \" \"]]));\n",
    "const cells = data.cells.length / 4, canvas = $(\"map\"), pen = "
    "canvas.getContext(\"2d\");\n",
    "let columns = 1, step = 8;\n",
    "if (cells < 4000) $(\"zoom\").value = cells < 600 ? 24 : 16;\n",
    "function colour(i) { const live = data.cells[4 * i], orphan = data.cells[4 * i "
    "+ 1], kind = data.cells[4 * i + 2], age = data.cells[4 * i + 3];\n",
    "  if (!live) return null; const by = $(\"by\").value;\n",
    "  if (chosen >= 0 && kind !== chosen) return \"#8883\";\n",
    "  if (by === \"age\") return ages[Math.min(age, 4)];\n",
    "  if (by === \"full\") { const part = live / data.cell_bytes; return \"hsl(\" + "
    "Math.round(120 * part) + \" 60% 45%)\"; }\n",
    "  if (by === \"orphan\") return orphan ? \"hsl(0 80% \" + Math.round(75 - 40 * "
    "orphan / live) + \"%)\" : \"#8883\";\n",
    "  return kindColour(kind); }\n",
    "function draw() { step = Number($(\"zoom\").value); const width = "
    "document.body.clientWidth - 34; columns = Math.max(1, Math.floor(width / step));\n",
    "  const rows = Math.min(Math.ceil(cells / columns), Math.floor(30000 / step)), "
    "ratio = rows * step * columns * step * 4 > 2e8 ? 1 : Math.min(2, "
    "devicePixelRatio || 1);\n",
    "  canvas.width = columns * step * ratio; canvas.height = Math.max(1, rows) * "
    "step * ratio; canvas.style.width = columns * step + \"px\"; canvas.style.height = "
    "rows * step + \"px\";\n",
    "  pen.scale(ratio, ratio);\n",
    "  for (let i = 0; i < cells; i++) { const c = colour(i); pen.fillStyle = c || "
    "\"#8881\"; const gap = step > 4 ? 1 : 0;\n",
    "    pen.fillRect(i % columns * step, Math.floor(i / columns) * step, step - "
    "gap, step - gap); }\n",
    "  $(\"scale\").textContent = \"a cell is \" + size(data.cell_bytes) + \", a row \" + "
    "size(data.cell_bytes * columns); legend(); }\n",
    "function legend() { const by = $(\"by\").value, box = $(\"legend\"); "
    "box.textContent = \"\";\n",
    "  const add = (c, t) => { const s = document.createElement(\"span\"), i = "
    "document.createElement(\"i\"); i.style.background = c; s.append(i, t); "
    "box.append(s); };\n",
    "  if (by === \"kind\") order.slice(0, colours.length).forEach(k => "
    "data.kinds[k].blocks && add(kindColour(k), data.kinds[k].name));\n",
    "  if (by === \"age\") [\"in the last commit\", \"4 commits ago or later\", \"16 "
    "commits\", \"64 commits\", \"earlier, or not known\"].forEach((t, i) => add(ages[i], "
    "t));\n",
    "  if (by === \"full\") [[5, \"nearly empty\"], [60, \"half full\"], [120, "
    "\"full\"]].forEach(([h, t]) => add(\"hsl(\" + h + \" 60% 45%)\", t));\n",
    "  if (by === \"orphan\") { add(\"hsl(0 80% 35%)\", \"all orphans\"); add(\"hsl(0 80% "
    "70%)\", \"some\"); add(\"#8883\", \"none\"); }\n",
    "  add(\"#8881\", \"no block: free, or the heap's own\"); }\n",
    "canvas.onmousemove = event => { const box = canvas.getBoundingClientRect(), i = "
    "Math.floor((event.clientY - box.top) / step) * columns + "
    "Math.floor((event.clientX - box.left) / step);\n",
    "  if (i < 0 || i >= cells) return; const live = data.cells[4 * i];\n",
    "  $(\"cell\").textContent = hex(i * data.cell_bytes) + \": \" + (live ? size(live) "
    "+ \" live, mostly \" + name(data.cells[4 * i + 2]) + \", \" + size(data.cells[4 * i "
    "+ 1]) + \" orphans\" : \"no live block\"); };\n",
    "$(\"by\").onchange = $(\"zoom\").oninput = draw; window.onresize = draw;\n",
    "function tree() { const box = $(\"tree\"), word = $(\"find\").value.toLowerCase(); "
    "box.textContent = \"\";\n",
    "  for (const line of data.tree) { if (word && "
    "!line.text.toLowerCase().includes(word)) continue; const div = "
    "document.createElement(\"div\");\n",
    "    if (line.offset) div.className = \"o\"; div.textContent = \"  "
    "\".repeat(line.depth) + (line.offset ? hex(line.offset) + \"  \" : \"\") + "
    "line.text; box.append(div); } }\n",
    "$(\"find\").oninput = tree; tree(); draw();\n",
    "document.documentElement.dataset.ready = \"yes\";\n",
    "</script></body></html>\n",
    "\n",
    NULL,
};
/* clang-format on */

/* Copy JSON, with nothing in it that could end its element. */
static void page_copy(FILE *file, FILE *from)
{
    int byte;
    rewind(from);
    while ((byte = getc(from)) != EOF)
        if (byte == '<')
            fputs("\\u003c", file);
        else
            putc(byte, file);
}

void autopsy_html(FILE *file, const char *path, const struct autopsy_report *report)
{
    size_t i = 0;
    FILE *const data = tmpfile();
    if (!data) {
        perror("everheap autopsy: no temporary file");
        exit(CLI_FAILED);
    }
    for (; autopsy_page[i]; i++) fputs(autopsy_page[i], file);
    autopsy_json(data, path, report);
    page_copy(file, data);
    fclose(data);
    for (i++; autopsy_page[i]; i++) fputs(autopsy_page[i], file);
}
