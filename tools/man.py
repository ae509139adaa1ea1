#!/usr/bin/env python3
"""Writes the man pages: tally.1, and one for each verb. What they say is what --help says.

usage: man.py TALLY DIR        DIR/tally.1, DIR/tally-VERB.1

A verb with more to tell has its further sections, in roff, in docs/man/tally-VERB.more."""
import pathlib
import re
import subprocess
import sys

MORE = pathlib.Path(__file__).resolve().parents[1] / "docs/man"
OPTION = re.compile(r"^ {2}(?:-\w, | {4})(--.*?)(?: {2,}(.*))?$")
SHORT = re.compile(r"^ {2}(-\w), ")
VERB = re.compile(r"^ {2}(\w+) {2,}(.*)$")
EXAMPLES = "examples:"


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def blocks(text):
    return [block.splitlines() for block in text.strip("\n").split("\n\n")]


def literal(lines):
    return [".nf", *(roff(line) for line in lines), ".fi"]


def synopsis(block):
    return [".SH SYNOPSIS", *literal([line.removeprefix("usage: ").strip() if not i else
                                      re.sub(r"^ {7}", "", line) for i, line in enumerate(block)])]


def option_list(block):
    """A list of options, each with the lines that go on below it."""
    out = []
    for line in block:
        found = OPTION.match(line)
        if not found:
            out.append(roff(line.strip()))
            continue
        short = SHORT.match(line)
        head = f"{short.group(1)}, {found.group(1)}" if short else found.group(1)
        out += [".TP", ".B " + roff(head), *([roff(found.group(2))] if found.group(2) else [])]
    return out


def page(name, summary, version, help_text, exit_status, others):
    parts = blocks(help_text)
    text, options, examples = [], [], []
    for block in parts[1:]:
        if block[0] == EXAMPLES:
            examples = block[1:]
        elif OPTION.match(block[0]):
            options += option_list(block)
        elif block[0].startswith("Exit status:"):
            exit_status = " ".join(block)
        else:
            text += [".PP", *(roff(line) for line in block)]
    out = [f'.TH {name.upper()} 1 "" "{version}" "User Commands"', ".SH NAME",
           f"{roff(name)} \\- {roff(summary)}", *synopsis(parts[0])]
    if text:
        out += [".SH DESCRIPTION", *text]
    if options:
        out += [".SH OPTIONS", *options]
    more = MORE / f"{name}.more"
    if more.exists():
        out += more.read_text().rstrip("\n").splitlines()
    out += [".SH EXIT STATUS", roff(exit_status.removeprefix("Exit status: "))]
    if examples:
        out += [".SH EXAMPLES", *literal(line.removeprefix("  ") for line in examples)]
    out += [".SH SEE ALSO", ",\n".join(f".BR {roff(other)} (1)" for other in others)]
    return "\n".join(out) + "\n"


def main_page(version, help_text, verbs, exit_status):
    parts = blocks(help_text)
    out = [f'.TH TALLY 1 "" "{version}" "User Commands"', ".SH NAME",
           "tally \\- which records a Kafka consumer missed or handled twice, and why",
           *synopsis(parts[0]), ".SH DESCRIPTION"]
    more = MORE / "tally.more"
    out += more.read_text().rstrip("\n").splitlines() + [".SH VERBS"]
    for verb, summary in verbs:
        out += [".TP", f".B {verb}", roff(summary)]
    out += [".SH EXIT STATUS", roff(exit_status.removeprefix("Exit status: ")), ".SH SEE ALSO",
            ",\n".join(f".BR tally\\-{verb} (1)" for verb, _ in verbs)]
    return "\n".join(out) + "\n"


def main(tally, directory):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    help_text, version = said(tally, "--help"), said(tally, "--version").strip()
    verbs = [found.groups() for line in help_text.splitlines() if (found := VERB.match(line))]
    exit_status = re.search(r"^Exit status: .*$", help_text, re.M).group(0)
    (directory / "tally.1").write_text(main_page(version, help_text, verbs, exit_status))
    for verb, summary in verbs:
        name = f"tally-{verb}"
        others = ["tally"] + [f"tally-{v}" for v, _ in verbs if v != verb]
        text = page(name, summary, version, said(tally, verb, "--help"), exit_status, others)
        (directory / f"{name}.1").write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
