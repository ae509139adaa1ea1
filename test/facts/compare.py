#!/usr/bin/env python3
"""Compares schema/*.kw, field by field, with Apache Kafka's own definitions in this folder."""
import pathlib
import re
import sys

here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent
sys.path.insert(0, str(root / "tools"))

import kw  # noqa: E402

TYPES = {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint16": "u16",
         "uint32": "u32", "float64": "f64", "bool": "bool", "string": "string", "uuid": "uuid",
         "bytes": "bytes", "records": "records"}

wrong = []


def say(where, what):
    wrong.append(f"{where}: {what}")


def read_schema():
    schema = kw.Schema()
    schema.read_folder(root / "schema")
    return schema


def versions(text):
    low, _, high = text.replace("+", "-999").partition("-")
    return int(low), int(high or low)


def read_facts():
    """Each message: its attributes, its fields, its named structs; fields nest by indent."""
    messages = {}
    for line in (here / "kafka-messages.txt").read_text().splitlines():
        if line.startswith("#") or not line:
            continue
        words = line.split()
        values = dict(w.split("=", 1) for w in words if "=" in w)
        if words[0] == "message":
            message = {"attributes": values, "fields": [], "structs": {}}
            messages[words[1]] = message
            stack = [message["fields"]]
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        del stack[depth:]
        field = {"name": words[0], "type": words[1], "values": values, "fields": []}
        if words[0] == "struct":
            message["structs"][words[1]] = field["fields"]
        else:
            stack[-1].append(field)
        stack.append(field["fields"])
    return messages


def plain(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


def clip(low_high, message):
    low, high = low_high
    return max(low, message.first), min(high, message.last)


def default_of(field, ours):
    """As a comparable value; zero, empty and absent are one."""
    text = ours.default if field is None else field["values"].get("default", "").strip('"')
    kind, is_array = ours.type, ours.is_array
    if text in ("", None):
        return None
    if text == "null":
        return "null"
    if is_array or kind in ("string", "uuid", "bytes"):
        return text
    if kind == "bool":
        return True if text == "true" else None
    return int(text, 0) or None


def compare_field(where, theirs, ours, message, structs):
    values = theirs["values"]
    is_array = theirs["type"].startswith("[]")
    name = theirs["type"].removeprefix("[]")
    if is_array != ours.is_array or TYPES.get(name) != (None if ours.sub else ours.type):
        say(where, f"type is {theirs['type']}, ours is {ours.type}")
        return
    if clip(versions(values["v"]), message) != ours.versions:
        say(where, f"versions {values['v']}, ours are {ours.versions}")
    null = clip(versions(values["null"]), message) if "null" in values else (1, 0)
    null = (max(null[0], ours.versions[0]), min(null[1], ours.versions[1]))
    mine = clip(ours.null, message)
    if (null if null[0] <= null[1] else None) != (mine if mine[0] <= mine[1] else None):
        say(where, f"null in {values.get('null')}, ours in {ours.null}")
    if default_of(theirs, ours) != default_of(None, ours):
        say(where, f"default {values.get('default')}, ours {ours.default}")
    if int(values.get("tag", -1)) != ours.tag:
        say(where, f"tag {values.get('tag')}, ours {ours.tag}")
    if "tag" in values and clip(versions(values["tagged"]), message) != ours.versions:
        say(where, "is tagged in some of its versions only")
    if ours.sub:
        compare_fields(where, theirs["fields"] or structs[name], ours.sub, message, structs)


def compare_fields(where, theirs, ours, message, structs):
    theirs = [f for f in theirs
              if clip(versions(f["values"]["v"]), message)[0]
              <= clip(versions(f["values"]["v"]), message)[1]]
    for i in range(max(len(theirs), len(ours.fields))):
        a = theirs[i]["name"] if i < len(theirs) else None
        b = ours.fields[i].name if i < len(ours.fields) else None
        if a is None or b is None or plain(a) != plain(b):
            say(where, f"field {i + 1} is {a}, ours is {b}")
            return
        compare_field(f"{where}.{b}", theirs[i], ours.fields[i], message, structs)


def compare_message(name, theirs, ours):
    compare_fields(name, theirs["fields"], ours.body, ours, theirs["structs"])


def tsv(name):
    rows = [line.split("\t") for line in (here / name).read_text().splitlines()]
    return [dict(zip(rows[0], row)) for row in rows[1:]]


def compare_apis(schema, facts):
    known = {int(row["key"]): row for row in tsv("apis.tsv")}
    for a in schema.apis:
        if a.is_private:
            if a.key in known:
                say(a.name, f"private, but {a.key} is Kafka's")
            continue
        row = known.get(a.key)
        name = "".join(w.capitalize() for w in a.name.split("_"))
        if not row or row["name"] != name:
            say(name, f"api {a.key} is {row and row['name']}")
            continue
        flexible = None if row["flexible_from"] == "none" else int(row["flexible_from"])
        got = (a.request.first, a.request.last, a.request.flexible, a.advertise)
        want = (int(row["min"]), int(row["max"]), flexible, int(row["advertise_min"]))
        if got != want:
            say(name, f"first, last, flexible, advertised versions {want}, ours {got}")
        compare_message(f"{name}Request", facts[f"{name}Request"], a.request)
        compare_message(f"{name}Response", facts[f"{name}Response"], a.response)


def compare_errors(schema):
    want = {(int(r["code"]), r["name"], r["retriable"] == "yes") for r in tsv("errors.tsv")}
    got = {(e.code, e.name, e.retriable) for e in schema.errors}
    for error in sorted(want ^ got):
        say("errors.kw", f"{error} stands on one side only")


def main():
    schema, facts = read_schema(), read_facts()
    compare_apis(schema, facts)
    compare_errors(schema)
    for m in schema.messages:
        name = "".join(w.capitalize() for w in m.name.split("_"))
        if name in facts:
            compare_message(name, facts[name], m)
    for line in wrong:
        print(line)
    n = sum(not a.is_private for a in schema.apis)
    print(f"facts: {n} APIs, {len(schema.errors)} errors, {len(wrong)} differences")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
