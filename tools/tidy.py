#!/usr/bin/env python3
"""House rules that no compiler checks. Exceptions stand in tools/tidy.allow, one a line
("RULE PATH[:NAME] NUMBER"), and may only shrink: one that is no longer needed, or larger than
needed, is an error too.  tidy.py --ratchet writes the file anew, but never raises a number."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
ALLOW = ROOT / "tools/tidy.allow"
MAX_FUNCTION, MAX_FILE, MAX_LINE = 70, 800, 100

# Which folders of src a folder may include from. Itself is always allowed.
LAYERS = {
    "base": [],
    "os": ["base", "wire"],  # a connection is given whole encoded answers
    "wire": ["base"],
    "core": ["base", "wire"],
    "store": ["base", "wire", "os", "core"],
    "broker": ["base", "wire", "os", "core", "store"],
    "client": ["base", "wire"],
    "drill": ["base", "wire", "os", "core", "store", "broker", "client", "cli"],
    "sim": ["base", "wire", "os", "core", "store", "broker"],
    "cli": ["base", "wire", "os", "core", "store", "broker", "client", "drill"],
}

# What objects of src/core may take from the C library: no clock, file, socket, random, stderr.
PURE = set("""
memcpy memmove memset memcmp memchr memmem strlen strcmp strncmp strchr strrchr strstr strnlen
malloc calloc realloc free reallocarray qsort bsearch abort snprintf vsnprintf sprintf strtol
strtoul strtoll strtoull strtod log log2 exp pow floor ceil round sqrt fmin fmax lround llround
isnan isinf tolower toupper isalnum isalpha isdigit isspace strcasecmp
__ctype_b_loc __ctype_tolower_loc __ctype_toupper_loc strncasecmp strdup strndup
__errno_location __stack_chk_fail __memcpy_chk __memset_chk __memmove_chk __snprintf_chk
__vsnprintf_chk __isoc23_strtol __isoc23_strtoul __isoc23_strtoll
__isoc23_strtoull _GLOBAL_OFFSET_TABLE_
""".split())

# Absolute paths of one machine, and words that belong in a conversation, not in a repository.
FORBIDDEN = [
    (re.compile(r"(?<![\w.\"'-])/(?:work|home|root)/[a-z]"), "a path of one machine"),
    (re.compile(r"\.\./shared"), "a path outside the repository"),
    (re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"), "an unfinished note"),
]
TEXT = {".c", ".h", ".py", ".md", ".kw", ".drill", ".sh", ".go", ".java", ".js", ".xml", ""}

problems = {}  # (rule, where) -> (number, message)


def problem(rule, where, number, message):
    old = problems.get((rule, where))
    if old is None or old[0] < number:
        problems[rule, where] = (number, message)


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                         capture_output=True, text=True).stdout
    return [pathlib.PurePosixPath(p) for p in out.splitlines() if (ROOT / p).is_file()]


def check_lines(path, lines):
    if len(lines) > MAX_FILE and path.suffix in (".c", ".h", ".py"):
        problem("file", str(path), len(lines), f"{len(lines)} lines, at most {MAX_FILE}")
    limited = path.suffix in (".c", ".h", ".py", ".kw", ".go", ".java", ".js")
    for number, line in enumerate(lines, 1):
        if limited and len(line) > MAX_LINE:
            problem("line", str(path), len(line), f"line {number} has {len(line)} characters")
        if path.name in ("tidy.py", "kafka-messages.txt"):
            continue
        for pattern, what in FORBIDDEN:
            if pattern.search(line):
                problem("word", str(path), 1, f"line {number} names {what}: {line.strip()[:60]}")


FUNCTION_END = re.compile(r"^}")
FUNCTION_NAME = re.compile(r"\b(\w+)\(")


def check_functions(path, lines):
    """clang-format puts a function's braces in column 0, alone on their lines."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
            head = number - 2
            while head > 0 and lines[head - 1].strip() and lines[head - 1][0] not in "}#/":
                head -= 1
            name = FUNCTION_NAME.search(" ".join(lines[head:number - 1]))
            name = name.group(1) if name else f"line {number}"
        elif FUNCTION_END.match(line) and start is not None:
            length = number - start - 1
            if length > MAX_FUNCTION:
                problem("function", f"{path}:{name}", length,
                        f"{length} lines, at most {MAX_FUNCTION}")
            start = None


def check_python_functions(path, lines):
    import ast
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno
            if length > MAX_FUNCTION:
                problem("function", f"{path}:{node.name}", length,
                        f"{length} lines, at most {MAX_FUNCTION}")


INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def check_includes(path, lines, graph):
    if path.suffix == ".h" and not any(line.startswith("#pragma once") for line in lines):
        problem("once", str(path), 1, "no #pragma once")
    if path.parts[0] != "src":
        return
    layer = path.parts[1]
    if layer not in LAYERS:
        problem("layer", str(path), 1, f"src/{layer} has no layer in tools/tidy.py")
        return
    for line in lines:
        found = INCLUDE.match(line)
        if not found or "/" not in found.group(1):
            continue
        target = found.group(1)
        graph.setdefault(str(path), set()).add("src/" + target)
        to = target.split("/")[0]
        if to != layer and to not in LAYERS[layer]:
            problem("layer", str(path), 1, f"src/{layer} may not include {target}")


def check_cycles(graph):
    state = {}

    def visit(node, trail):
        state[node] = "open"
        for to in sorted(graph.get(node, ())):
            if state.get(to) == "open":
                cycle = trail[trail.index(to):] if to in trail else trail
                problem("cycle", node, 1, "include cycle: " + " -> ".join(cycle + [to]))
            elif to not in state:
                visit(to, trail + [to])
        state[node] = "done"

    for node in sorted(graph):
        if node not in state:
            visit(node, [node])


def check_core_symbols():
    """Which names the core's objects take from outside base, wire, core and the C library."""
    objects = ROOT / "build/obj"
    core = sorted((objects / "src/core").rglob("*.o"))
    if not core:
        if list((ROOT / "src/core").rglob("*.c")):
            problem("core", "build", 1, "src/core is not built: run make first")
        return
    lower = [o for d in ("src/core", "src/base", "src/wire", "gen")
             for o in (objects / d).rglob("*.o")]
    defined = set()
    for line in nm("--defined-only", lower):
        defined.add(line.split()[-1])
    for line in nm("-u", core, "-A"):
        where, name = line.split(":")[0], line.split()[-1]
        if name not in PURE and name not in defined:
            source = pathlib.Path(where).relative_to(objects).with_suffix(".c")
            problem("core", f"{source}:{name}", 1, f"the core is pure and may not use {name}")


def nm(option, objects, *more):
    if not objects:
        return []
    out = subprocess.run(["nm", option, *more, *map(str, objects)], check=True,
                         capture_output=True, text=True).stdout
    return [line for line in out.splitlines() if line.strip() and not line.endswith(":")]


def check_format(files):
    """.clang-format is the whole of it: clang-format -i FILE puts it right."""
    code = [str(p) for p in files if p.suffix in (".c", ".h")]
    try:
        done = subprocess.run(["clang-format", "--dry-run", *code], cwd=ROOT, capture_output=True,
                              text=True, check=True)
    except FileNotFoundError:
        problem("format", "tools/tidy.py", 1, "no clang-format: make deps installs it")
        return
    for line in done.stderr.splitlines():
        found = re.match(r"(\S+?):(\d+):\d+: warning: code should be clang-formatted", line)
        if found:
            message = f"line {found.group(2)}: run clang-format -i"
            problem("format", found.group(1), 1, message)


def read_allow():
    allow = {}
    if ALLOW.exists():
        for line in ALLOW.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                rule, where, number = line.split()
                allow[rule, where] = int(number)
    return allow


def write_allow(allow):
    kept = {k: min(n, problems[k][0]) for k, n in allow.items() if k in problems}
    lines = ["# Exceptions to the house rules; this file may only shrink. See tools/tidy.py."]
    lines += [f"{rule} {where} {n}" for (rule, where), n in sorted(kept.items())]
    ALLOW.write_text("\n".join(lines) + "\n")


def judge(allow):
    wrong = []
    for key, (number, message) in sorted(problems.items()):
        if number > allow.get(key, 0):
            wrong.append(f"{key[1]}: {message} ({key[0]})")
    for key, number in sorted(allow.items()):
        now = problems.get(key, (0, ""))[0]
        if now < number:
            wrong.append(f"tools/tidy.allow: {key[0]} {key[1]} is {now} now, not {number}: "
                         "run tools/tidy.py --ratchet")
    return wrong


def main():
    graph, files = {}, tracked()
    for path in files:
        if path.suffix not in TEXT or (ROOT / path).stat().st_size > 1 << 20:
            continue
        lines = (ROOT / path).read_text(errors="replace").splitlines()
        check_lines(path, lines)
        if path.suffix in (".c", ".h"):
            check_functions(path, lines)
            check_includes(path, lines, graph)
        elif path.suffix == ".py":
            check_python_functions(path, lines)
    check_cycles(graph)
    check_core_symbols()
    check_format(files)
    allow = read_allow()
    if "--ratchet" in sys.argv:
        write_allow(allow)
        allow = read_allow()
    wrong = judge(allow)
    for line in wrong:
        print(line)
    print(f"tidy: {0 if wrong else 1} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
