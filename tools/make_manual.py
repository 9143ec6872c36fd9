#!/usr/bin/env python3
"""Write the manual's pages of the functions, in mdoc, from the comments in the public headers.

    tools/make_manual.py OUT [NAME...]    OUT/NAME.3 for each function, and OUT/everheap.3

One page for each comment, under the name of its first function; the others lead to it. What is said of
a family, before the functions or at the head of their part of the header, is on the page of each."""
import datetime
import os
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADERS = sorted((ROOT / "include/everheap").glob("*.h"))
LABELS = {"Returns": "RETURN VALUES", "Errors": "ERRORS", "Threads": "THREADS", "Crash": "CRASHES",
          "Cost": "COST"}
COMMENT = re.compile(r"/\*.*?\*/", re.S)
# Declared with EVH_API, or inline with a comment of its own.
FUNCTION = re.compile(r"(?:EVH_API|static inline)\s+([^;({]*?)\b(evh_\w+)\(([^;{]*?)\)\s*"
                      r"(?:__attribute__\(.*?\)\)\s*)?[;{]", re.S)


class Part:
    """A comment and the functions that it is about."""
    def __init__(self, comment, header, family):
        self.comment, self.header, self.family, self.functions = comment, header, family, []


def clean(comment):
    """The comment's text without its frame; continued lines keep their indentation."""
    lines = [re.sub(r"^\s*(/\*+|\*(?!/)) ?", "", line) for line in comment.split("\n")]
    return "\n".join(lines).replace("*/", "").strip("\n ")


def parts_of(path):
    """The documented functions of a header, in its order."""
    text, at, family, parts, current = path.read_text(), 0, "", [], None
    while at < len(text):
        comment, function = COMMENT.match(text, at), FUNCTION.match(text[at:at + 2000])
        if comment:
            body = comment[0]
            ends_line = "\n" in text[max(0, text.rfind("\n", 0, at)):at + 1] or not text[
                text.rfind("\n", 0, at) + 1:at].strip()
            if re.match(r"/\* -{3,}", body):
                family, current = "", None
            elif body.startswith("/**"):
                current = Part(clean(body), path.name, family)
            elif ends_line and (body.startswith("/*\n") or "Family:" in body):
                family, current = clean(body), None
            elif not ends_line and parts and not current.comment:
                current.comment = clean(body)
            at = comment.end()
        elif function and (current or text.startswith("EVH_API", at)):
            current = current or Part("", path.name, family)
            if not current.functions:
                parts.append(current)
            kind, name, parameters = (re.sub(r"\s+", " ", part).strip() for part in function.groups())
            current.functions.append((kind, name, parameters))
            at += function.end()
        else:
            line = text[at:text.find("\n", at) + 1]
            if line.strip() and line[0] not in " {}":
                current = None  # what it was about is no function
            at = next_token(text, at)
    return parts


def next_token(text, at):
    """Behind this character, or at the next line that begins something."""
    found = re.compile(r"/\*|^\S", re.M).search(text, at + 1)
    return found.start() if found else len(text)


def escape(text):
    """Text that means nothing to roff, with names of functions in bold."""
    text = text.replace("\\", "\\e").replace("`", "")
    return re.sub(r"\b([a-z]\w*)\(\)", r"\\fB\1\\fP()", text)


def guard(line):
    return "\\&" + line if line[:1] in ".'" else line


def literal(line):
    return guard(line.rstrip().replace("\\", "\\e"))


def filled(text):
    """Words in lines, each sentence on its own."""
    sentences = re.split(r"(?<=[.!?])\s+|(?<=[.!?]\))\s+", re.sub(r"\s+", " ", text).strip())
    return "\n".join(guard(line) for sentence in sentences if sentence
                     for line in textwrap.wrap(escape(sentence), 78, break_on_hyphens=False,
                                               break_long_words=False)) + "\n"


def sections(comment):
    """(text, {label: text}) of a comment in the house's form."""
    free, labelled, current = [], {}, None
    for line in comment.split("\n"):
        label = re.match(r"(Returns|Errors|Threads|Crash|Cost)\s{2,}(\S.*)", line)
        inline = re.match(r"(Errors|Cost|Threads|Crash): (.*)", line)
        if label or inline:
            current = (label or inline)[1]
            labelled[current] = (label or inline)[2]
        elif current and (line.startswith("  ") or inline):
            labelled[current] += " " + line.strip()
        else:
            if current and line.strip():
                current = None
            free.append(line)
    return "\n".join(free).strip(), labelled


def paragraphs(text):
    """Text that was laid out (lists, tables) as it is; other text filled."""
    out = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.split("\n")
        if any(re.match(r"\s*\S.*\S {3,}\S|\s{2,}\S", line) for line in lines[1:]) or re.match(
                r"\s{2,}\S|\S+ {3,}\S", lines[0]):
            out.append(".Bd -literal\n" + "\n".join(map(literal, lines)) + "\n.Ed\n")
        elif block.strip():
            out.append(filled(block))
    return "".join(a if i == 0 or a.startswith(".Bd") or out[i - 1].startswith(".Bd") else ".Pp\n" + a
                   for i, a in enumerate(out))


def head(name, section, about):
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc) if epoch else \
        datetime.datetime.now(datetime.timezone.utc)
    date = f"{now:%B} {now.day}, {now.year}"
    return f".Dd {date}\n.Dt {name.upper()} {section}\n.Os\n.Sh NAME\n" + about


def summary(part):
    """The first sentence, as a name's line has it."""
    text = sections(part.comment)[0] or sections(part.family)[0]
    first = re.split(r"(?<=[.:;])\s", re.sub(r"\s+", " ", text).strip())[0].rstrip(".:;").split(", such as")[0]
    first = first or "part of a family"
    return first[0].lower() + first[1:] if not first[:3].isupper() else first


def page(part):
    names = [name for _, name, _ in part.functions]
    about = "".join(f".Nm {name}{' ,' if name != names[-1] else ''}\n" for name in names)
    about += f".Nd {escape(summary(part))}\n"
    out = head(names[0], 3, about) + ".Sh LIBRARY\neverheap (libeverheap, -leverheap)\n.Sh SYNOPSIS\n"
    out += ".In everheap.h\n"
    for kind, name, parameters in part.functions:
        arguments = re.split(r",\s*(?![^(]*\))", parameters) if parameters not in ("", "void") else []
        out += f".Ft \"{kind}\"\n.Fo {name}\n" + "".join(f".Fa \"{a}\"\n" for a in arguments) + ".Fc\n"
    free, labelled = sections(part.comment)
    family, of_family = sections(part.family)
    out += ".Sh DESCRIPTION\n" + (paragraphs(free) if free else "") + (
        (".Pp\n" if free else "") + paragraphs(family).replace(".Pp\n.Bd", ".Bd", 1) if family else "")
    for label, title in LABELS.items():
        if text := labelled.get(label) or of_family.get(label):
            out += f".Sh {title}\n{filled(text)}"
    out += f".Sh SEE ALSO\n.Xr everheap 3 ,\n.In everheap/{part.header}\n"
    return out.replace(".Pp\n.Bd", ".Bd").replace(".Ed\n.Pp\n", ".Ed\n.Pp\n")


def overview(parts):
    """everheap(3): the example of the README, and all functions by header."""
    hello = (ROOT / "examples/hello.c").read_text().split("\n", 1)[1].strip("\n")
    out = head("everheap", 3, ".Nm everheap\n.Nd a heap that lasts\n")
    out += ".Sh LIBRARY\neverheap (libeverheap, -leverheap)\n.Sh SYNOPSIS\n.In everheap.h\n.Sh DESCRIPTION\n"
    out += filled("Memory in one file that is mapped: plain pointers, plain stores, and a commit makes all "
                  "since the last commit durable, all or nothing.")
    out += ".Bd -literal\n" + "\n".join(map(literal, hello.split("\n"))) + "\n.Ed\n"
    for header in HEADERS:
        of_header = [p for p in parts if p.header == header.name]
        if not of_header:
            continue
        purpose = re.match(r"/\* \S+ -- (.*?)\.?(?: \*/)?$", header.read_text().split("\n")[0])[1]
        out += f".Ss {header.name}: {purpose}\n.Bl -tag -width Ds\n"
        for part in of_header:
            out += f".It Xr {part.functions[0][1]} 3\n{filled(summary(part))}"
        out += ".El\n"
    return out + ".Sh SEE ALSO\n.Xr everheap 1\n"


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.3"):
        old.unlink()
    parts = [part for header in HEADERS for part in parts_of(header)]
    for part in parts:
        first = part.functions[0][1]
        (out / f"{first}.3").write_text(page(part))
        for _, name, _ in part.functions[1:]:
            (out / f"{name}.3").symlink_to(f"{first}.3")
    (out / "everheap.3").write_text(overview(parts))


if __name__ == "__main__":
    sys.exit(main())
