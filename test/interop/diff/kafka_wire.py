"""A raw Kafka protocol client in plain Python, independent of tally's own codec: the messages are
read from test/facts/kafka-messages.txt and are dictionaries with Kafka's own field names."""
import pathlib
import socket
import struct
import uuid

FACTS = pathlib.Path(__file__).resolve().parents[2] / "facts"
INT_FORMATS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I",
               "int64": ">q", "float64": ">d", "bool": ">?"}


def version_range(text):
    """"3-7", "3+", "5" or "none" as an inclusive range; none is empty."""
    if text in ("none", "-"):
        return range(0)
    if text.endswith("+"):
        return range(int(text[:-1]), 1 << 15)
    low, _, high = text.partition("-")
    return range(int(low), int(high or low) + 1)


class Field:
    def __init__(self, words):
        self.name, self.type = words[0], words[1]
        options = dict(w.split("=", 1) for w in words[2:] if "=" in w)
        self.versions = version_range(options.get("v", "0+"))
        self.nullable = version_range(options.get("null", "none"))
        self.tag = int(options["tag"]) if "tag" in options else None
        self.tagged = version_range(options.get("tagged", "none"))
        self.default = options.get("default", "").strip('"')
        self.plain_string = options.get("flexfield") == "none"
        self.children = []

    def default_value(self):
        if self.type.startswith("[]"):
            return None if self.default == "null" else []
        if self.type in ("string", "bytes", "records"):
            if self.default == "null":
                return None
            return self.default if self.type == "string" else b""
        if self.type == "bool":
            return self.default == "true"
        if self.type == "uuid":
            return str(uuid.UUID(int=0))
        if self.type == "float64":
            return float(self.default or 0)
        if self.type in INT_FORMATS:
            return int(self.default or "0", 0)
        return None if self.default == "null" else {}


class Message:
    def __init__(self, words):
        self.name, self.kind = words[0], words[1]
        options = dict(w.split("=", 1) for w in words[2:] if "=" in w)
        self.key = options["key"]
        self.valid = version_range(options["valid"])
        self.flexible = version_range(options["flex"])
        self.fields, self.structs = [], {}


def load_messages(path=FACTS / "kafka-messages.txt"):
    messages, stack = {}, []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        depth, words = (len(line) - len(line.lstrip(" "))) // 2, line.split()
        if depth == 0:
            current = Message(words[1:])
            messages[current.name] = current
            stack = [current.fields]
            continue
        del stack[depth:]
        if words[0] == "struct":
            children = current.structs.setdefault(words[1], [])
        else:
            field = Field(words)
            stack[depth - 1].append(field)
            children = field.children
        stack.append(children)
    return messages


MESSAGES = load_messages()
APIS = {m.name[:-len("Request")]: m for m in MESSAGES.values() if m.kind == "request"}
ERRORS = {}
for _line in (FACTS / "errors.tsv").read_text().splitlines()[1:]:
    ERRORS[int(_line.split("\t")[0])] = _line.split("\t")[1]


def uvarint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


class Encoder:
    def __init__(self, message, version):
        self.message, self.version = message, version
        self.flexible = version in message.flexible
        self.out = bytearray()

    def struct(self, fields, value):
        unknown = set(value) - {f.name for f in fields}
        if unknown:
            raise KeyError(f"{self.message.name} has no {unknown}")
        tagged = []
        for f in fields:
            if self.version not in f.versions:
                continue
            v = value.get(f.name, f.default_value())
            if f.tag is not None and self.version in f.tagged:
                if v != f.default_value():
                    tagged.append((f.tag, f, v))
                continue
            self.field(f, v)
        if self.flexible:
            self.tags(tagged)

    def tags(self, tagged):
        self.out += uvarint(len(tagged))
        for tag, f, v in sorted(tagged, key=lambda t: t[0]):
            inner = Encoder(self.message, self.version)
            inner.field(f, v)
            self.out += uvarint(tag) + uvarint(len(inner.out)) + inner.out

    def length(self, n, short=False):
        if self.flexible:
            self.out += uvarint(0 if n is None else n + 1)
        else:
            self.out += struct.pack(">h" if short else ">i", -1 if n is None else n)

    def field(self, f, v):
        if f.type.startswith("[]"):
            self.length(None if v is None else len(v))
            for item in v or ():
                self.value(f, f.type[2:], item)
        else:
            self.value(f, f.type, v)

    def value(self, f, kind, v):
        if kind in INT_FORMATS:
            self.out += struct.pack(INT_FORMATS[kind], v)
        elif kind == "uuid":
            self.out += uuid.UUID(v).bytes
        elif kind == "string":
            raw = None if v is None else v.encode()
            if f.plain_string:
                self.out += struct.pack(">h", -1 if raw is None else len(raw))
            else:
                self.length(None if raw is None else len(raw), short=True)
            self.out += raw or b""
        elif kind in ("bytes", "records"):
            self.length(None if v is None else len(v))
            self.out += v or b""
        else:
            if kind == f.type and self.version in f.nullable:
                self.out += struct.pack(">b", -1 if v is None else 1)
                if v is None:
                    return
            self.struct(f.children or self.message.structs[kind], v)


class Decoder:
    def __init__(self, message, version, data):
        self.message, self.version, self.data, self.at = message, version, data, 0
        self.flexible = version in message.flexible

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise ValueError(f"{self.message.name} v{self.version}: ends early at {self.at}+{n}")
        piece = self.data[self.at:self.at + n]
        self.at += n
        return piece

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def uvarint(self):
        n = shift = 0
        while True:
            byte = self.take(1)[0]
            n |= (byte & 127) << shift
            if byte < 128:
                return n
            shift += 7

    def length(self, short=False):
        n = self.uvarint() - 1 if self.flexible else self.number(">h" if short else ">i")
        return None if n < 0 else n

    def struct(self, fields):
        value = {}
        for f in fields:
            if self.version not in f.versions:
                continue
            if f.tag is not None and self.version in f.tagged:
                value[f.name] = f.default_value()
            else:
                value[f.name] = self.field(f)
        if self.flexible:
            by_tag = {f.tag: f for f in fields if self.version in f.tagged}
            for _ in range(self.uvarint()):
                tag, size = self.uvarint(), self.uvarint()
                inner = Decoder(self.message, self.version, self.take(size))
                if tag in by_tag:
                    value[by_tag[tag].name] = inner.field(by_tag[tag])
                else:
                    value[f"tag {tag}"] = inner.data
        return value

    def field(self, f):
        if not f.type.startswith("[]"):
            return self.value(f, f.type)
        n = self.length()
        return None if n is None else [self.value(f, f.type[2:]) for _ in range(n)]

    def value(self, f, kind):
        if kind in INT_FORMATS:
            return self.number(INT_FORMATS[kind])
        if kind == "uuid":
            return str(uuid.UUID(bytes=bytes(self.take(16))))
        if kind == "string":
            n = self.length(short=True)
            return None if n is None else bytes(self.take(n)).decode(errors="backslashreplace")
        if kind in ("bytes", "records"):
            n = self.length()
            return None if n is None else bytes(self.take(n))
        if kind == f.type and self.version in f.nullable and self.number(">b") < 0:
            return None
        return self.struct(f.children or self.message.structs[kind])


def encode(name, version, value):
    e = Encoder(MESSAGES[name], version)
    e.struct(e.message.fields, value)
    return bytes(e.out)


def decode(name, version, data):
    d = Decoder(MESSAGES[name], version, data)
    value = d.struct(d.message.fields)
    if d.at != len(data):
        raise ValueError(f"{name} v{version}: {len(data) - d.at} bytes left over")
    return value


class Closed(Exception):
    """The broker closed the connection instead of answering."""


class Connection:
    def __init__(self, address, client_id="diff", timeout=20):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.client_id, self.correlation = client_id, 0

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read(self, n):
        data = bytearray()
        while len(data) < n:
            try:
                piece = self.socket.recv(n - len(data))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Closed()
            data += piece
        return bytes(data)

    def send_frame(self, payload):
        try:
            self.socket.sendall(struct.pack(">i", len(payload)) + payload)
        except ConnectionError:
            raise Closed() from None

    def send(self, api, version, body):
        """body: a dictionary, or the raw bytes of one."""
        message = APIS[api]
        self.correlation += 1
        flexible = version in message.flexible
        raw = body if isinstance(body, bytes) else encode(message.name, version, body)
        client = self.client_id.encode()
        header = struct.pack(">hhih", int(message.key), version, self.correlation, len(client))
        self.send_frame(header + client + (b"\0" if flexible else b"") + raw)
        return flexible

    def receive(self, api, version, flexible):
        size = struct.unpack(">i", self.read(4))[0]
        frame = self.read(size)
        if struct.unpack(">i", frame[:4])[0] != self.correlation:
            raise ValueError(f"{api} v{version}: answer with another correlation id")
        at = 4
        if flexible and api != "ApiVersions":
            if frame[4] != 0:
                raise ValueError(f"{api} v{version}: header tags are not empty")
            at = 5
        return decode(api + "Response", version, frame[at:])

    def call(self, api, version, body):
        return self.receive(api, version, self.send(api, version, body))
