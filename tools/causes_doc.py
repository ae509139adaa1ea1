#!/usr/bin/env python3
"""Makes docs/causes.md from schema/causes.kw. With --check only says whether it is current."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEAD = """# Causes

Made by `tools/causes_doc.py` from `schema/causes.kw`; change that.

What an incident may name as its cause, in the order in which they are tried: a range that fits
several gets the first, the others are `contributing`. The class says what may be claimed; which
certainty goes with it is in `docs/ARCHITECTURE.md`, "Ledger decisions". Words in {braces} are
filled in from the group's own traffic; a part in [brackets] is left out where that was not seen.
"""


def blocks(text):
    name, values, key = None, {}, None
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            if name:
                yield name, values
            name, values = line.strip(), {}
        elif line.startswith("    "):
            values[key] += " " + line.strip()
        else:
            key, _, value = line.strip().partition(" ")
            values[key] = value.strip()
    if name:
        yield name, values


def render():
    out = [HEAD]
    for name, v in blocks((ROOT / "schema/causes.kw").read_text()):
        drill = f"`{v['drill']}`" if "drill" in v else "none"
        out.append(f"## {name}\n\n{v['meaning']}\n\n- Class: {', '.join(v['class'].split())}\n"
                   f"- What to do: {v['advice']}\n- Drill: {drill}\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out))


def main():
    target = ROOT / "docs/causes.md"
    if "--check" in sys.argv[1:]:
        if target.read_text() != render():
            sys.exit("docs/causes.md is not what schema/causes.kw says: run tools/causes_doc.py")
        return
    target.write_text(render())


if __name__ == "__main__":
    main()
