"""Reads schema/*.kw for tools/gen.py and test/facts/compare.py.

A message file holds one or several of

    api 12 heartbeat versions 0-4 flexible 4+      sections `request` and `response` follow
    record 3 offset_committed versions 0           ours, on disk; flexible 0+ unless it says else
    message consumer_assignment versions 0-3       Kafka's own blobs; flexible none unless ...

and below it one field a line: name, type, versions, `= default`, `null VERSIONS`, `tag N`.
Right after an api line may stand `advertise MIN` and `private`. A struct's fields stand indented
below its first use; a later use of the same name in the same message stands alone.
errors.kw, configs.kw and causes.kw are tables; their own first lines say how they read.
"""
import dataclasses
import pathlib
import re

SCALARS = {  # schema type: (C type, enum kw_kind, bytes on the wire)
    "bool": ("bool", "KW_BOOL", 1),
    "i8": ("int8_t", "KW_I8", 1),
    "i16": ("int16_t", "KW_I16", 2),
    "i32": ("int32_t", "KW_I32", 4),
    "i64": ("int64_t", "KW_I64", 8),
    "u16": ("uint16_t", "KW_U16", 2),
    "u32": ("uint32_t", "KW_U32", 4),
    "f64": ("double", "KW_F64", 8),
    "uuid": ("struct uuid", "KW_UUID", 16),
    "string": ("struct str", "KW_STRING", None),
    "bytes": ("struct bytes", "KW_BYTES", None),
    "records": ("struct kw_records", "KW_RECORDS", None),
}
RANGES = {"i8": 8, "i16": 16, "i32": 32, "i64": 64}
LAST_VERSION = 31  # versions are bits of one uint32_t
RESERVED = set("""auto break case char const continue default do double else enum extern float for
goto if inline int long register restrict return short signed sizeof static struct switch typedef
union unsigned void volatile while bool true false errno""".split())


class Bad(Exception):
    pass


@dataclasses.dataclass
class Line:
    file: pathlib.Path
    number: int
    indent: int
    words: list
    text: str

    def fail(self, why):
        raise Bad(f"{self.file}:{self.number}: {why}")


@dataclasses.dataclass
class Field:
    line: Line
    name: str
    type: str
    is_array: bool
    is_nullable: bool
    versions: tuple
    null: tuple = None
    default: str = None
    tag: int = -1
    sub: object = None

    def at(self, version):
        return self.versions[0] <= version <= self.versions[1]

    def starts_null(self):
        return self.default == "null"

    def by_pointer(self):
        return self.sub is not None and not self.is_array and self.is_nullable

    def starts_other_than_zero(self):
        if self.by_pointer():
            return False
        if self.sub and not self.is_array:
            return any(f.starts_other_than_zero() for f in self.sub.fields)
        if self.type == "bytes" and not self.is_array:
            return self.is_nullable and not self.starts_null()
        if self.type == "string" and not self.is_array:
            return True  # "" has a pointer
        return self.default is not None


@dataclasses.dataclass
class Struct:
    name: str
    fields: list = dataclasses.field(default_factory=list)

    def wire_order(self):
        plain = [f for f in self.fields if f.tag < 0]
        return plain + sorted((f for f in self.fields if f.tag >= 0), key=lambda f: f.tag)


@dataclasses.dataclass
class Message:
    line: Line
    name: str  # of the C struct
    key: int
    first: int
    last: int
    flexible: int  # None: never
    body: Struct = None
    structs: dict = dataclasses.field(default_factory=dict)  # by element name, inner first

    def is_flexible(self, version):
        return self.flexible is not None and version >= self.flexible


@dataclasses.dataclass
class Api:
    line: Line
    key: int
    name: str
    request: Message
    response: Message
    advertise: int
    is_private: bool


# ---- reading

def read_lines(path):
    lines = []
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        text = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        if not text:
            continue
        if "\t" in text:
            raise Bad(f"{path}:{number}: a tab; indent with spaces")
        body = text.lstrip()
        lines.append(Line(path, number, len(text) - len(body), body.split(), body))
    return lines


def parse_versions(line, text):
    m = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
    if not m:
        line.fail(f"versions are written 3+, 0-7 or 3, not {text}")
    low = int(m[1])
    high = LAST_VERSION if m[2] == "+" else int(m[3]) if m[3] else low
    if low > high or high > LAST_VERSION:
        line.fail(f"versions {text}: must go up and end at {LAST_VERSION} or before")
    return low, high


def parse_name(line, name):
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        line.fail(f"{name} is not a snake_case name")
    if name in RESERVED:
        line.fail(f"{name} is a word of C; use another name")
    return name


def parse_message_head(line, words, default_flexible):
    """`versions A-B [flexible C+|none]` -> first, last, flexible."""
    if len(words) < 2 or words[0] != "versions":
        line.fail("expected: versions A-B [flexible C+]")
    first, last = parse_versions(line, words[1])
    flexible = default_flexible
    if len(words) == 4 and words[2] == "flexible":
        flexible = None if words[3] == "none" else parse_versions(line, words[3])[0]
    elif len(words) != 2:
        line.fail("expected: versions A-B [flexible C+]")
    return first, last, flexible


def parse_field(message, line):
    words = list(line.words)
    if len(words) < 2:
        line.fail("a field is: name type [versions] [= default] [null versions] [tag n]")
    name, spelled = parse_name(line, words.pop(0)), words.pop(0)
    m = re.fullmatch(r"(\[)?([a-z][a-z0-9_]*)(\])?(\?)?", spelled)
    if not m or bool(m[1]) != bool(m[3]):
        line.fail(f"{spelled} is not a type")
    versions = parse_versions(line, words.pop(0)) if words and words[0][0].isdigit() else None
    low, high = versions or (message.first, message.last)
    f = Field(line, name, m[2], bool(m[1]), bool(m[4]),
              (max(low, message.first), min(high, message.last)))
    f.null = f.versions if f.is_nullable else (1, 0)
    while words:
        word = words.pop(0)
        if not words:
            line.fail(f"{word} wants a value")
        value = words.pop(0)
        if word == "=":
            f.default = value
        elif word == "null" and f.is_nullable:
            low, high = parse_versions(line, value)
            f.null = max(low, f.versions[0]), min(high, f.versions[1])
        elif word == "tag" and value.isdigit():
            f.tag = int(value)
        else:
            line.fail(f"{word} {value} is not understood here")
    check_field(message, f)
    return f


def check_field(message, f):
    if f.versions[0] > f.versions[1]:
        f.line.fail("exists in no version of the message")
    if f.is_nullable and f.null[0] > f.null[1]:
        f.line.fail("null is legal in no version of the field: leave out the ?")
    if f.tag >= 0 and not message.is_flexible(f.versions[0]):
        f.line.fail("a tag needs a flexible version")
    if f.default == "null":
        if not f.is_nullable:
            f.line.fail("= null needs a type with ?")
    elif f.default is not None:
        if f.is_array:
            f.line.fail("an array can only default to null")
        check_default(f)
    if f.is_nullable and not f.is_array and f.type in SCALARS:
        if f.type not in ("string", "bytes", "records"):
            f.line.fail(f"{f.type} cannot be null")


def check_default(f):
    if f.type == "bool":
        if f.default not in ("true", "false"):
            f.line.fail("a bool is true or false")
    elif f.type in RANGES or f.type in ("u16", "u32", "f64"):
        try:
            n = int(f.default, 0)
        except ValueError:
            f.line.fail(f"{f.default} is not a whole number")
        bits = RANGES.get(f.type)
        if bits and not -(1 << bits - 1) <= n < 1 << bits - 1:
            f.line.fail(f"{f.default} does not fit {f.type}")
        if n < 0 and f.type[0] == "u":
            f.line.fail(f"{f.default} does not fit {f.type}")
    elif f.type != "string":
        f.line.fail(f"{f.type} has no default but null")


def parse_struct(message, struct, lines, indent):
    """Reads the fields that stand at this indent or deeper; stops at a shallower line."""
    while lines and lines[0].indent >= indent:
        line = lines.pop(0)
        if line.indent != indent:
            line.fail(f"indented by {line.indent}, expected {indent}")
        f = parse_field(message, line)
        if any(g.name == f.name for g in struct.fields):
            line.fail(f"{f.name} stands twice in {struct.name}")
        if f.tag >= 0 and any(g.tag == f.tag for g in struct.fields):
            line.fail(f"tag {f.tag} stands twice in {struct.name}")
        struct.fields.append(f)
        deeper = bool(lines) and lines[0].indent > indent
        if f.type in SCALARS:
            if deeper:
                lines[0].fail(f"{f.name} is {f.type} and has no fields")
            continue
        if not deeper:
            f.sub = message.structs.get(f.type)
            if f.sub is None:
                line.fail(f"unknown type {f.type}; its fields must stand below its first use")
        else:
            if f.type in message.structs:
                line.fail(f"struct {f.type} is defined twice in {message.name}")
            f.sub = Struct(f"{message.name}_{f.type}")
            parse_struct(message, f.sub, lines, lines[0].indent)
            message.structs[f.type] = f.sub
        if f.by_pointer() and f.default != "null":
            line.fail("a struct that can be null starts as null: write = null")


def parse_body(line, name, key, head, lines):
    message = Message(line, name, key, *head)
    message.body = Struct(name)
    if lines and lines[0].indent > 0:
        parse_struct(message, message.body, lines, lines[0].indent)
    return message


def parse_api(line, lines):
    key, name = int(line.words[1]), parse_name(line, line.words[2])
    head = parse_message_head(line, line.words[3:], None)
    advertise, is_private, parts = head[0], False, {}
    while lines and lines[0].words[0] in ("advertise", "private", "request", "response"):
        at = lines.pop(0)
        word = at.words[0]
        if word == "private" and len(at.words) == 1:
            is_private = True
        elif word == "advertise" and len(at.words) == 2 and at.words[1].isdigit():
            advertise = int(at.words[1])
        elif len(at.words) == 1 and word not in parts:
            parts[word] = parse_body(at, f"{name}_{word}", key, head, lines)
        else:
            at.fail(f"{at.text} is not understood here")
    if set(parts) != {"request", "response"}:
        line.fail("an api needs one `request` and one `response`")
    return Api(line, key, name, parts["request"], parts["response"], advertise, is_private)


class Schema:
    def __init__(self):
        self.apis, self.records, self.messages = [], [], []
        self.errors, self.configs, self.causes = [], [], []

    def read_messages(self, path):
        lines = read_lines(path)
        while lines:
            line = lines.pop(0)
            words = line.words
            if line.indent == 0 and words[0] == "api" and len(words) > 3 and words[1].isdigit():
                self.apis.append(parse_api(line, lines))
            elif line.indent == 0 and words[0] == "record" and len(words) > 3:
                if not words[1].isdigit():
                    line.fail("record NUMBER name versions A-B")
                head = parse_message_head(line, words[3:], 0)
                name = parse_name(line, words[2])
                self.records.append(
                    parse_body(line, f"{name}_record", int(words[1]), head, lines))
            elif line.indent == 0 and words[0] == "message" and len(words) > 2:
                head = parse_message_head(line, words[2:], None)
                name = parse_name(line, words[1])
                self.messages.append(parse_body(line, name, -1, head, lines))
            else:
                line.fail("expected `api`, `record` or `message` here")

    def read_folder(self, folder):
        for path in sorted(folder.glob("*.kw")):
            if path.name == "errors.kw":
                self.errors = read_errors(path)
            elif path.name == "configs.kw":
                self.configs = read_blocks(path, CONFIG_KEYS)
            elif path.name == "causes.kw":
                self.causes = read_blocks(path, CAUSE_KEYS)
            else:
                self.read_messages(path)
        for c in self.configs:
            check_config(c)
        for c in self.causes:
            check_cause(c)
        self.check()

    def check(self):
        def unique(what, items, key):
            seen = {}
            for item in items:
                k = key(item)
                if k in seen:
                    item.line.fail(f"{what} {k} is taken by {seen[k].line.file}:"
                                   f"{seen[k].line.number}")
                seen[k] = item
        unique("api", self.apis, lambda a: a.key)
        unique("record type", self.records, lambda r: r.key)
        unique("name", self.all_messages(), lambda m: m.name)
        unique("error code", self.errors, lambda e: e.code)
        unique("error", self.errors, lambda e: e.name)
        unique("config", self.configs, lambda c: c.name)
        unique("cause", self.causes, lambda c: c.name)
        self.apis.sort(key=lambda a: a.key)
        self.records.sort(key=lambda r: r.key)
        self.configs.sort(key=lambda c: c.name)
        self.errors.sort(key=lambda e: e.code)

    def all_messages(self):
        for a in self.apis:
            yield a.request
            yield a.response
        yield from self.records
        yield from self.messages


# ---- tables of their own

@dataclasses.dataclass
class Error:
    line: Line
    code: int
    name: str
    retriable: bool
    message: str


CONTINUED = 8  # from this column on a line of errors.kw continues the one above


def read_errors(path):
    """One error a line: code, name, `retriable` or `-`, message; deep lines continue that."""
    errors = []
    for line in read_lines(path):
        if line.indent >= CONTINUED and errors:
            errors[-1].message += " " + line.text
            continue
        if len(line.words) < 4 or not re.fullmatch(r"-?\d+", line.words[0]):
            line.fail("an error is: code NAME retriable|- message")
        if line.words[2] not in ("retriable", "-"):
            line.fail("the third column is `retriable` or `-`")
        errors.append(Error(line, int(line.words[0]), line.words[1],
                            line.words[2] == "retriable", " ".join(line.words[3:])))
    return errors


@dataclasses.dataclass
class Block:
    line: Line
    name: str
    values: dict


def read_blocks(path, keys):
    """A name at the margin, `key value` lines below it; deeper lines continue the value."""
    blocks = []
    for line in read_lines(path):
        if line.indent == 0:
            if len(line.words) != 1:
                line.fail("a name alone stands at the margin")
            blocks.append(Block(line, line.words[0], {}))
            inner = key = None
            continue
        if not blocks:
            line.fail("a name at the margin comes first")
        inner = line.indent if inner is None else inner
        if line.indent > inner and key:
            blocks[-1].values[key] += " " + line.text
            continue
        key = line.words[0]
        if key not in keys:
            line.fail(f"{key} is not one of {' '.join(keys)}")
        if key in blocks[-1].values:
            line.fail(f"{key} stands twice")
        blocks[-1].values[key] = line.text[len(key):].strip()
    return blocks


CONFIG_KEYS = ("scope", "type", "default", "range", "values", "synonym", "doc")
CONFIG_SCOPES = ("broker", "topic", "group", "ignored", "dynamic")
CONFIG_TYPES = ("int", "long", "bool", "string", "list", "double")
CAUSE_KEYS = ("class", "meaning", "advice", "drill")


def check_config(c):
    v = c.values
    for key in ("scope", "type", "doc"):
        if not v.get(key):
            c.line.fail(f"{c.name} needs {key}")
    if not re.fullmatch(r"[a-z][a-z0-9._]*", c.name):
        c.line.fail(f"{c.name} is not a config name")
    if any(s not in CONFIG_SCOPES for s in v["scope"].split()):
        c.line.fail(f"{c.name}: scope is one or several of {' '.join(CONFIG_SCOPES)}")
    if v["type"] not in CONFIG_TYPES:
        c.line.fail(f"{c.name}: type is one of {' '.join(CONFIG_TYPES)}")
    low, high = {"int": (-2**31, 2**31 - 1)}.get(v["type"], (-2**63, 2**63 - 1))
    if "range" in v:
        m = re.fullmatch(r"(-?\d+)?\.\.(-?\d+)?", v["range"])
        if not m:
            c.line.fail(f"{c.name}: a range is 1..10, 1.. or ..10")
        low = int(m[1]) if m[1] else low
        high = int(m[2]) if m[2] else high
    c.range = low, high
    default = v.get("default", "null")
    c.default = None if default == "null" else "" if default == '""' else default
    if c.default is not None:
        check_config_default(c, low, high)


def check_config_default(c, low, high):
    kind, allowed = c.values["type"], c.values.get("values", "").split()
    if kind in ("int", "long"):
        if not re.fullmatch(r"-?\d+", c.default):
            c.line.fail(f"{c.name}: default {c.default} is not a whole number")
        if not low <= int(c.default) <= high:
            c.line.fail(f"{c.name}: default {c.default} lies outside its range")
    elif kind == "bool" and c.default not in ("true", "false"):
        c.line.fail(f"{c.name}: default {c.default} is not true or false")
    elif allowed:
        given = c.default.split(",") if kind == "list" else [c.default]
        if any(g not in allowed for g in given):
            c.line.fail(f"{c.name}: default {c.default} is not one of its values")


def check_cause(c):
    parse_name(c.line, c.name)
    for key in ("class", "meaning", "advice"):
        if not c.values.get(key):
            c.line.fail(f"{c.name} needs {key}")
