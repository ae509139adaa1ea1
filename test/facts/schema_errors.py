#!/usr/bin/env python3
"""Each mistake in a schema is refused with its file and line."""
import pathlib
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parents[2]
HEAD = "api 12 x versions 0-4 flexible 4+\nrequest\n"
TAIL = "response\n  e  i16\n"

CASES = [  # schema text, line, part of the message
    (HEAD + "  a  i33\n" + TAIL, 3, "unknown type i33"),
    (HEAD + "  a  i32  9+\n" + TAIL, 3, "exists in no version"),
    (HEAD + "  a  i32\n  a  i32\n" + TAIL, 4, "stands twice"),
    (HEAD + "  a  i8  0+ = 200\n" + TAIL, 3, "does not fit i8"),
    (HEAD + "  a  i8?\n" + TAIL, 3, "cannot be null"),
    (HEAD + "  a  string  0+ = null\n" + TAIL, 3, "needs a type with ?"),
    (HEAD + "  a  string  0+ tag 1\n" + TAIL, 3, "needs a flexible version"),
    (HEAD + "  default  i32\n" + TAIL, 3, "word of C"),
    (HEAD + "  a  i32\n    b  i32\n" + TAIL, 4, "has no fields"),
    (HEAD + "  a  t?\n    b  i32\n" + TAIL, 3, "write = null"),
    (HEAD + "  a  i32\n", 1, "one `response`"),
    ("api 12 x versions 4-0\n" + TAIL, 1, "must go up"),
    ("thing 12 x\n", 1, "expected `api`"),
    (HEAD + TAIL + "record 1 y versions 0\nrecord 1 z versions 0\n", 6, "is taken by"),
]


def main():
    failed = 0
    for text, line, part in CASES:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.kw"
            path.write_text(text)
            run = subprocess.run([sys.executable, root / "tools/gen.py", "--out", folder, folder,
                                  folder], capture_output=True, text=True)
            if run.returncode != 1 or f"{path}:{line}: " not in run.stderr \
                    or part not in run.stderr:
                failed += 1
                print(f"wanted {line}: {part}; got {run.returncode} {run.stderr.strip()}")
    print(f"schema_errors: {len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
