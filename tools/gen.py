#!/usr/bin/env python3
"""Makes schema/*.kw and drills/*.drill into schema.h and schema.c; tools/kw.py says how."""
import argparse
import pathlib
import sys

import kw


def c_string(text):
    if text is None:
        return "NULL"
    out = text.replace("\\", "\\\\").replace('"', '\\"').replace("??", "?\\?")
    return f'"{out}"'


def c_int64(n):
    if n == -2**63:
        return "INT64_MIN"
    if n == 2**63 - 1:
        return "INT64_MAX"
    return f"{n}" if -2**31 < n < 2**31 else f"INT64_C({n})"


def mask(versions):
    low, high = versions
    return sum(1 << v for v in range(low, high + 1))


def field_min_size(message, f, version):
    compact = message.is_flexible(version)
    if f.is_array:
        return 1 if compact else 4
    if f.by_pointer():
        return 1
    if f.sub:
        return struct_min_size(message, f.sub, version)
    size = kw.SCALARS[f.type][2]
    if size is None:
        size = 1 if compact else 2 if f.type == "string" else 4
    return size


def struct_min_size(message, struct, version):
    total = 1 if message.is_flexible(version) else 0
    for f in struct.fields:
        if f.tag < 0 and f.at(version):
            total += field_min_size(message, f, version)
    return total


def c_struct(struct):
    yield f"struct {struct.name} {{"
    if not struct.fields:
        yield "    uint8_t unused_; // C knows no empty struct"
    for f in struct.fields:
        kind = f"struct {f.sub.name}" if f.sub else kw.SCALARS[f.type][0]
        if f.is_array:
            yield f"    {kind} *{f.name};"
            yield f"    int32_t n_{f.name};"
        elif f.by_pointer():
            yield f"    {kind} *{f.name};"
        else:
            yield f"    {kind} {f.name};"
    yield "};"


def c_default_number(f):
    if f.default is None or f.default == "null" or f.type == "string":
        return "0"
    if f.type == "bool":
        return "1" if f.default == "true" else "0"
    return c_int64(int(f.default, 0))


def c_field(struct, f):
    kind = "KW_STRUCT" if f.sub else kw.SCALARS[f.type][1]
    parts = [f'.name = "{f.name}"', f".kind = {kind}", f".tag = {f.tag}",
             f".versions = {mask(f.versions):#x}U", f".nullable = {mask(f.null):#x}U",
             f".offset = offsetof(struct {struct.name}, {f.name})"]
    if f.sub:
        parts.append(f".sub = &{f.sub.name}_table")
    elif f.type != "bool" and kw.SCALARS[f.type][2] and not f.is_array:
        parts.append(f".fixed = {kw.SCALARS[f.type][2]}")
    if f.is_array:
        parts.append(".is_array = true")
        parts.append(f".count_offset = offsetof(struct {struct.name}, n_{f.name})")
    if f.by_pointer():
        parts.append(".by_pointer = true")
    if f.starts_null():
        parts.append(".default_null = true")
    if f.starts_other_than_zero():
        parts.append(".has_default = true")
    if c_default_number(f) != "0":
        parts.append(f".default_number = {c_default_number(f)}")
    if f.type == "string" and f.default not in (None, "null"):
        parts.append(f".default_text = {c_string(f.default)}")
    return "    {" + ", ".join(parts) + "},"


def c_table(message, struct):
    sizes = ", ".join(str(struct_min_size(message, struct, v)) if v >= message.first else "0"
                      for v in range(message.last + 1))
    fields = struct.wire_order()
    yield f"static const uint16_t {struct.name}_min[] = {{{sizes}}};"
    if fields:
        yield f"static const struct kw_field {struct.name}_fields[] = {{"
        yield from (c_field(struct, f) for f in fields)
        yield "};"
    plain = sum(f.tag < 0 for f in fields)
    yield f"static const struct kw_struct {struct.name}_table = {{"
    yield (f'    .name = "{struct.name}", .fields = '
           f'{struct.name + "_fields" if fields else "NULL"},')
    yield (f"    .min_size = {struct.name}_min, .n_plain = {plain}, .n_fields = {len(fields)}, "
           f".size = sizeof(struct {struct.name}),")
    yield "};"


def structs_of(message):
    return list(message.structs.values()) + [message.body]


def header_messages(schema):
    for m in schema.all_messages():
        for s in structs_of(m):
            yield from c_struct(s)
            yield f"void {s.name}_init(struct {s.name} *ret);"
            yield ""
        yield f"extern const struct kw_message {m.name}_msg;"
        yield ""
    if schema.apis:
        yield "enum api {"
        yield from (f"    API_{a.name.upper()} = {a.key}," for a in schema.apis)
        yield "};"
    if schema.records:
        yield "enum record_type {"
        yield from (f"    RECORD_{r.name[:-len('_record')].upper()} = {r.key},"
                    for r in schema.records)
        yield "};"


def source_messages(schema):
    for m in schema.all_messages():
        for s in structs_of(m):
            yield from c_table(m, s)
            yield f"void {s.name}_init(struct {s.name} *ret)"
            yield "{"
            yield f"    kw_struct_init(&{s.name}_table, ret);"
            yield "}"
        flexible = "INT16_MAX" if m.flexible is None else m.flexible
        yield f"const struct kw_message {m.name}_msg = {{"
        yield (f'    .name = "{m.name}", .key = {m.key}, .min_version = {m.first}, '
               f".max_version = {m.last},")
        yield f"    .flexible_version = {flexible}, .body = &{m.name}_table,"
        yield "};"
        yield ""
    yield "const struct kw_api kw_apis[] = {"
    for a in schema.apis:
        shown = "".join(w.capitalize() for w in a.name.split("_"))
        yield (f'    {{{a.key}, "{shown}", {a.request.first}, {a.request.last}, {a.advertise}, '
               f"&{a.request.name}_msg, &{a.response.name}_msg, {str(a.is_private).lower()}}},")
    yield "    {0}, // never looked at"
    yield "};"
    yield f"const size_t kw_n_apis = {len(schema.apis)};"
    yield "const struct kw_message *const kw_record_types[] = {"
    yield from (f"    &{r.name}_msg," for r in schema.records)
    yield "    NULL,"
    yield "};"
    yield f"const size_t kw_n_record_types = {len(schema.records)};"


def header_tables(schema):
    yield "// The outcome of a request, as Kafka numbers it."
    yield "enum kerr {"
    yield from (f"    KERR_{e.name} = {e.code}," for e in schema.errors)
    yield "};"
    yield "const char *kerr_name(int code);    // \"NONE\"; \"UNKNOWN\" for a code we do not have"
    yield "const char *kerr_message(int code); // one sentence, for error_message fields and people"
    yield "bool kerr_is_retriable(int code);"
    yield ""
    yield "enum config_scope { // bits: one name can be a broker's and a topic's"
    yield from (f"    CONFIG_SCOPE_{s.upper()} = {1 << i}," for i, s in enumerate(kw.CONFIG_SCOPES))
    yield "};"
    yield "enum config_type {"
    yield from (f"    CONFIG_TYPE_{t.upper()}," for t in kw.CONFIG_TYPES)
    yield "};"
    yield "enum config_id { // places in config_defs, sorted by name"
    yield from (f"    CONFIG_{c.name.upper().replace('.', '_')}," for c in schema.configs)
    yield "    CONFIG_COUNT,"
    yield "};"
    yield "struct config_def {"
    yield "    const char *name;"
    yield "    uint8_t scopes; // enum config_scope"
    yield "    enum config_type type;"
    yield "    const char *default_text; // NULL: none"
    yield "    int64_t min;"
    yield "    int64_t max;"
    yield "    const char *const *values; // NULL ends it; NULL itself: any"
    yield "    const char *synonym;       // the broker setting that a topic's falls back to"
    yield "    const char *doc;"
    yield "};"
    yield "extern const struct config_def config_defs[CONFIG_COUNT + 1]; // ends with name NULL"
    yield "const struct config_def *config_def_find(const char *name); // NULL when unknown"
    yield "const struct config_def *config_def_find_str(struct str name);"
    yield ""
    yield "enum cause { // in the order in which they are tried"
    yield from (f"    CAUSE_{c.name.upper()}," for c in schema.causes)
    yield "    CAUSE_COUNT,"
    yield "};"
    yield "struct cause_def {"
    yield "    const char *name;"
    yield "    const char *class_text; // what may be said: missed, repeated, ..."
    yield "    const char *meaning;"
    yield "    const char *advice;"
    yield "    const char *drill; // NULL: none forces it"
    yield "};"
    yield "const char *cause_name(enum cause c);"
    yield "const struct cause_def *cause_def(enum cause c);"
    yield "// CAUSE_COUNT when there is none of that name."
    yield "enum cause cause_find(struct str name);"
    yield ""
    yield "struct drill_file {"
    yield "    const char *name; // without .drill"
    yield "    const char *text;"
    yield "};"
    yield "extern const struct drill_file drill_files[]; // ends with name NULL"
    yield "extern const size_t n_drill_files;"


def source_errors(schema):
    yield "static const struct {"
    yield "    int16_t code;"
    yield "    bool is_retriable;"
    yield "    const char *name;"
    yield "    const char *message;"
    yield "} errors[] = {"
    for e in schema.errors:
        yield (f"    {{{e.code}, {str(e.retriable).lower()}, {c_string(e.name)}, "
               f"{c_string(e.message)}}},")
    yield '    {INT16_MIN, false, "UNKNOWN", "An error that this version does not know."},'
    yield "};"
    yield f"#define N_ERRORS {len(schema.errors)}"
    yield """
static size_t error_at(int code)
{
    size_t low = 0, high = N_ERRORS;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (errors[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < N_ERRORS && errors[low].code == code ? low : N_ERRORS;
}

const char *kerr_name(int code)
{
    return errors[error_at(code)].name;
}

const char *kerr_message(int code)
{
    return errors[error_at(code)].message;
}

bool kerr_is_retriable(int code)
{
    return errors[error_at(code)].is_retriable;
}
"""


def source_configs(schema):
    for i, c in enumerate(schema.configs):
        if "values" in c.values:
            words = ", ".join(c_string(w) for w in c.values["values"].split())
            yield f"static const char *const config_values_{i}[] = {{{words}, NULL}};"
    yield "const struct config_def config_defs[CONFIG_COUNT + 1] = {"
    for i, c in enumerate(schema.configs):
        scopes = sum(1 << kw.CONFIG_SCOPES.index(s) for s in set(c.values["scope"].split()))
        values = f"config_values_{i}" if "values" in c.values else "NULL"
        yield (f"    {{{c_string(c.name)}, {scopes}, CONFIG_TYPE_{c.values['type'].upper()}, "
               f"{c_string(c.default)}, {c_int64(c.range[0])}, {c_int64(c.range[1])}, {values}, "
               f"{c_string(c.values.get('synonym'))}, {c_string(c.values['doc'])}}},")
    yield "    {0},"
    yield "};"
    by_name = sorted(range(len(schema.configs)), key=lambda i: schema.configs[i].name.encode())
    yield "static const uint16_t configs_by_name[CONFIG_COUNT] = {"
    yield "    " + ", ".join(str(i) for i in by_name) + ","
    yield "};"
    yield """
const struct config_def *config_def_find_str(struct str name)
{
    size_t from = 0, to = name.len > 0 ? CONFIG_COUNT : 0;
    while (from < to) {
        size_t at = from + (to - from) / 2;
        const struct config_def *c = &config_defs[configs_by_name[at]];
        int order = strncmp(name.ptr, c->name, (size_t)name.len);
        if (order == 0 && strlen(c->name) == (size_t)name.len)
            return c;
        if (order > 0)
            from = at + 1;
        else
            to = at;
    }
    return NULL;
}

const struct config_def *config_def_find(const char *name)
{
    return config_def_find_str(str_from(name));
}
"""


def source_causes(schema):
    yield "static const struct cause_def causes[CAUSE_COUNT + 1] = {"
    for c in schema.causes:
        v = c.values
        drill = v.get("drill")
        yield (f"    {{{c_string(c.name)}, {c_string(v['class'])}, {c_string(v['meaning'])}, "
               f"{c_string(v['advice'])}, {c_string(None if drill in ('-', '') else drill)}}},")
    yield '    {"unknown", NULL, NULL, NULL, NULL},'
    yield "};"
    yield """
const struct cause_def *cause_def(enum cause c)
{
    return &causes[c < CAUSE_COUNT ? c : CAUSE_COUNT];
}

const char *cause_name(enum cause c)
{
    return cause_def(c)->name;
}

enum cause cause_find(struct str name)
{
    const struct cause_def *c = causes;
    while (c->class_text && !str_eq_c(name, c->name))
        c++;
    return (enum cause)(c - causes);
}
"""


def source_drills(drills):
    # As bytes: a string literal beyond 4095 characters is not portable.
    for i, path in enumerate(drills):
        data = path.read_bytes() + b"\0"
        yield f"static const char drill_{i}[] = {{"
        for at in range(0, len(data), 20):
            yield "    " + "".join(f"{b if b < 128 else b - 256}," for b in data[at:at + 20])
        yield "};"
    yield "const struct drill_file drill_files[] = {"
    yield from (f'    {{"{path.stem}", drill_{i}}},' for i, path in enumerate(drills))
    yield "    {NULL, NULL},"
    yield "};"
    yield f"const size_t n_drill_files = {len(drills)};"


NOTICE = "// Made by tools/gen.py from schema/ and drills/. Do not edit."


def write(out, schema, drills):
    header = [NOTICE, "#pragma once", "", '#include "wire/codec.h"', ""]
    header += list(header_tables(schema)) + [""] + list(header_messages(schema))
    source = [NOTICE, '#include "schema.h"', "", "#include <stddef.h>", "#include <string.h>", "",
              '#include "wire/table.h"', ""]
    for part in (source_messages, source_errors, source_configs, source_causes):
        source += list(part(schema))
    source += list(source_drills(drills))
    (out / "schema.h").write_text("\n".join(header) + "\n")
    (out / "schema.c").write_text("\n".join(source) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("schema", type=pathlib.Path)
    p.add_argument("drills", type=pathlib.Path)
    a = p.parse_args()
    schema = kw.Schema()
    schema.read_folder(a.schema)
    write(a.out, schema, sorted(a.drills.glob("*.drill")))


if __name__ == "__main__":
    try:
        main()
    except kw.Bad as error:
        print(error, file=sys.stderr)
        sys.exit(1)
