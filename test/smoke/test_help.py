#!/usr/bin/env python3
"""What --help says is so: every option it shows is taken, and the manual pages say the same.

usage: test_help.py [TALLY]       ends with "N passed, N failed"
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import test_serve

ROOT, TALLY = test_serve.ROOT, test_serve.TALLY
OPTION = re.compile(r"^ {2}(?:(-\w), | {4})--([\w-]+)( [A-Z|a-z:]+)?", re.M)
COLUMNS = 100


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=test_serve.PATIENCE_S,
                          stdin=subprocess.DEVNULL)


def help_of(*verb):
    done = run(TALLY, *verb, "--help")
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


def verbs():
    found = re.findall(r"^ {2}(\w+) {2,}", help_of(), re.M)
    assert len(found) >= 8, found
    return found


def test_help_is_found_in_every_way():
    for verb in verbs():
        text = help_of(verb)
        assert text.startswith(f"usage: tally {verb}") and "\nexamples:\n" in text, text
        assert max(map(len, text.splitlines())) <= COLUMNS, verb
        for words in ((verb, "-h"), ("help", verb)):
            assert run(TALLY, *words).stdout == text, words
    assert run(TALLY, "-h").stdout == run(TALLY, "help").stdout == help_of()


def test_every_option_shown_is_taken():
    """Parsing ends at an option nobody has, so nothing is started."""
    for verb in verbs():
        shown = OPTION.findall(help_of(verb))
        assert shown, verb
        for letter, name, value in shown:
            for option in ("--" + name, letter):
                if not option:
                    continue
                value_words = ["1"] if value else []
                done = run(TALLY, verb, option, *value_words, "--no-such-option")
                assert done.returncode == 2, (verb, option, done)
                assert f"option '{option}'" not in done.stderr, (verb, option, done.stderr)
                assert f"-- '{option[1:]}'" not in done.stderr, (verb, option, done.stderr)
                assert f"tally {verb}" in done.stderr, (verb, option, done.stderr)


def test_what_is_not_built_is_not_shown():
    for verb in verbs():
        for words in ("not built", "later version"):
            assert words not in help_of(verb), verb


def test_the_manual_pages_say_what_help_says():
    with tempfile.TemporaryDirectory() as pages:
        done = run(str(ROOT / "tools/man.py"), TALLY, pages)
        assert done.returncode == 0, done.stderr
        for verb in verbs():
            page = pathlib.Path(pages, f"tally-{verb}.1").read_text().replace("\\-", "-")
            for letter, name, _ in OPTION.findall(help_of(verb)):
                head = f".B {letter}, --{name}" if letter else f".B --{name}"
                assert head in page, (verb, head)
        assert len(os.listdir(pages)) == len(verbs()) + 1
        if shutil.which("groff"):
            for page in [*pathlib.Path(pages).iterdir(), ROOT / "docs/man/libtally.3"]:
                done = run("groff", "-man", "-Tutf8", "-ww", "-z", str(page))
                assert done.returncode == 0 and not done.stderr, (page, done.stderr)


if __name__ == "__main__":
    test_serve.run_all(globals())
