#!/usr/bin/env python3
"""The same requests to two brokers, answers compared field by field.
usage: run.py REFERENCE OTHER [--only SCRIPT] [--verbose]
The reference is a real Apache Kafka. Differences that are meant stand in expected.py, with the
reason; one that no longer occurs is an error too."""
import argparse
import re
import sys
import time
import traceback
import uuid

import expected
import scripts_admin
import scripts_data
import scripts_group
import scripts_limits
import scripts_members
import scripts_offsets
import scripts_settings
import scripts_topics
from kafka_wire import Closed
from recording import Recording, both, ranges

MAX_SHOWN = 160  # characters of a value
USUAL = (scripts_admin, scripts_data, scripts_group, scripts_members, scripts_offsets,
         scripts_settings, scripts_topics)


def scripts_of(modules):
    return {name: f for module in modules for name, f in vars(module).items()
            if callable(f) and name.startswith("script_")}


def named(value):
    """A list whose items have names of their own: compared name by name."""
    return (isinstance(value, list) and len(value) > 0 and
            all(isinstance(v, dict) and isinstance(v.get("Name"), str) for v in value) and
            len({v["Name"] for v in value}) == len(value))


def short(value):
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def compare(a, b, path=""):
    """Yields (path, a, b) where two cleaned answers differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            yield from compare(a.get(key, "<absent>"), b.get(key, "<absent>"), f"{path}.{key}")
    elif named(a) and named(b):
        by_name = [{item["Name"]: item for item in side} for side in (a, b)]
        for key in sorted(set(by_name[0]) | set(by_name[1])):
            yield from compare(by_name[0].get(key, "<absent>"), by_name[1].get(key, "<absent>"),
                               f"{path}[{key}]")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            yield from compare(x, y, f"{path}[{i}]")
    elif a != b:
        yield path or ".", a, b


def record(script, address, prefix, versions, now):
    r = Recording(address, prefix, versions)
    r.now = now
    try:
        script(r)
    except (Closed, OSError, ValueError, KeyError, IndexError) as e:
        where = traceback.extract_tb(e.__traceback__)
        line = next(f.lineno for f in reversed(where) if "scripts_" in f.filename)
        r.add(f"the script went on to its end (line {line})", f"no: {e!r}")
    finally:
        r.close()
    return r.steps


def is_expected(name, title, path, used):
    for entry in expected.DIFFERENCES:
        if all(re.search(pattern, text)
               for pattern, text in zip(entry[:3], (name, title, path))):
            used.add(entry)
            return True
    return False


def run_script(name, script, a, b, versions, used, verbose):
    prefix, now = f"d{uuid.uuid4().hex[:8]}", int(time.time() * 1000)
    left = record(script, a, prefix, versions, now)
    right = record(script, b, prefix, versions, now)
    passed = failed = 0
    for i in range(max(len(left), len(right))):
        title, x = left[i] if i < len(left) else (right[i][0], "<no such step>")
        title_b, y = right[i] if i < len(right) else (title, "<no such step>")
        if title != title_b:
            print(f"FAIL {name}: the steps part: {title!r} against {title_b!r}: {y}")
            return passed, failed + 1
        found = [d for d in compare(x, y) if not is_expected(name, title, d[0], used)]
        passed, failed = passed + (not found), failed + bool(found)
        if found:
            print(f"FAIL {name}: {title}")
        for path, mine, theirs in found:
            print(f"     {path}: reference {short(mine)}, other {short(theirs)}")
        if verbose:
            print(f"     {name}: {title}: {x}")
    return passed, failed


def prepare(address, versions):
    """The coordinator's topic is made by the first question for it, the first producer id is
    slow: before anything else."""
    r = Recording(address, "prepare", versions)
    c = r.connect()
    scripts_group.ready(r, c, "prepare")
    r.until(c, "InitProducerId", 1, {"TransactionalId": None, "TransactionTimeoutMs": 60000},
            lambda a: a["ErrorCode"] == 0)
    r.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("reference")
    p.add_argument("other")
    p.add_argument("--only", default="")
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--same", action="store_true", help="two of a kind: nothing may differ")
    p.add_argument("--limits", action="store_true",
                   help="the scripts for brokers with the settings of scripts_limits.py")
    a = p.parse_args()
    ranges_a, ranges_b = ranges(a.reference), ranges(a.other)
    versions, used = both(ranges_a, ranges_b), set()
    for address in (a.reference, a.other):
        prepare(address, versions)
    passed = failed = 0
    for name, script in scripts_of([scripts_limits] if a.limits else USUAL).items():
        if a.only not in name:
            continue
        started = time.monotonic()
        p_, f_ = run_script(name, script, a.reference, a.other, versions, used, a.verbose)
        print(f"{name}: {p_} alike, {f_} different, "
              f"{time.monotonic() - started:.1f} s", flush=True)
        passed, failed = passed + p_, failed + f_
    for entry in expected.DIFFERENCES:
        if entry not in used and not (a.only or a.same or a.limits):
            print(f"FAIL expected.py: {entry[:3]} does not differ any more: take it out")
            failed += 1
    print(f"diff: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
