#!/usr/bin/env python3
"""Wrap comment lines that are too long: surplus words move to the next line of the same paragraph.

    tools/wrap_comments.py FILE...

clang-format can reflow comments, but it would also join the lines of lists and tables."""
import re
import sys

LIMIT = 100
COMMENT = re.compile(r"^(\s*)(/\*\*?|\*)( +)(\S.*)$")
NEXT = re.compile(r"^(\s*\*)( +)(\S.*)$")
ITEM = re.compile(r"(?:[-*]|\d+\.) ")


def split(prefix, text):
    """The words that fit behind `prefix`, and those that do not; "*/" counts as one of them."""
    closes = text.endswith("*/")
    words, surplus = (text[:-2].rstrip() if closes else text).split(" "), []
    while len(words) > 1 and len(prefix + " ".join(words)) > LIMIT:
        surplus.insert(0, words.pop())
    if not surplus:
        surplus.insert(0, words.pop())
    return " ".join(words), " ".join(surplus) + (" */" if closes else "")


def wrap(lines):
    at = 0
    while at < len(lines):
        comment = COMMENT.match(lines[at])
        if len(lines[at]) > LIMIT and comment:
            indent, mark, gap, text = comment.groups()
            prefix = indent + mark + gap
            kept, surplus = split(prefix, text)
            lines[at] = prefix + kept
            behind = NEXT.match(lines[at + 1]) if at + 1 < len(lines) else None
            is_open = not text.endswith("*/")
            deeper = behind and len(behind[2]) >= len(gap) and not ITEM.match(behind[3])
            if is_open and deeper:
                lines[at + 1] = behind[1] + behind[2] + surplus + " " + behind[3]
            else:
                begins = mark.startswith("/*")
                start = indent + " *" + gap + " " * (len(mark) - 2) if begins else prefix
                item = ITEM.match(kept)
                lines.insert(at + 1, start + " " * (len(item[0]) if item else 0) + surplus)
        at += 1
    return lines


def main():
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            before = file.read()
        after = "\n".join(wrap(before.split("\n")))
        if after != before:
            with open(name, "w", encoding="utf-8") as file:
                file.write(after)


if __name__ == "__main__":
    main()
