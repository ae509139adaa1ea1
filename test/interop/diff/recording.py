"""Runs a script of requests against one broker and keeps what came back, in a form in which two
brokers can be compared: what must differ between two of them is replaced by a placeholder."""
import re
import struct
import time

import kafka_records
from kafka_wire import APIS, ERRORS, Closed, Connection, encode

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
ZERO_UUID = "00000000-0000-0000-0000-000000000000"

# May differ between any two brokers, and why.
PLACEHOLDERS = {
    "ThrottleTimeMs": "quotas are each broker's own",
    "Host": "where it listens", "Port": "where it listens",
    "ClusterId": "each cluster's own",
    "SessionId": "a broker may always refuse a fetch session by answering 0",
    "SupportedFeatures": "what is not served is not advertised",
    "FinalizedFeatures": "", "FinalizedFeaturesEpoch": "", "ZkMigrationReady": "",
    "Documentation": "each broker's own words",
    "ErrorMessage": "each broker's own words, where it has any",
    "BatchIndexErrorMessage": "each broker's own words",
}


class Recording:
    def __init__(self, address, prefix, versions):
        self.address, self.prefix, self.versions = address, prefix, versions
        self.now = None  # set by the runner: equal for both
        self.steps = []  # (title, outcome)
        self.connections = []

    def name(self, text):
        return f"{self.prefix}-{text}"

    def connect(self, client_id="diff"):
        c = Connection(self.address, client_id, timeout=8)
        self.connections.append(c)
        return c

    def close(self):
        for c in self.connections:
            c.close()

    def common(self, api):
        """Versions that both brokers and the facts know."""
        return [v for v in APIS[api].valid if v in self.versions.get(api, ())]

    def add(self, title, outcome):
        self.steps.append((title, outcome))

    def call(self, title, connection, api, version, body):
        """One request; its answer is recorded and returned (None when the broker closed)."""
        pending = self.send(title, connection, api, version, body)
        return self.receive(pending)

    def send(self, title, connection, api, version, body):
        title = f"{title}: {api} v{version}"
        if version not in self.common(api):
            return (title, None, api, version, None)
        if not isinstance(body, bytes):
            body = encode(APIS[api].name, version, only_known(APIS[api].fields, version, body))
        try:
            flexible = connection.send(api, version, body)
        except Closed:
            flexible = None
        return (title, connection, api, version, flexible)

    def receive(self, pending):
        title, connection, api, version, flexible = pending
        if connection is None:
            return None
        try:
            answer = connection.receive(api, version, flexible)
        except Closed:
            self.add(title, "closed the connection")
            return None
        except TimeoutError:
            self.add(title, "did not answer in time")
            return None
        except ValueError as e:
            self.add(title, f"cannot be read: {e}")
            return None
        self.add(title, self.clean(answer))
        return answer

    def quiet(self, connection, api, version, body):
        """A request that prepares something: not recorded."""
        return connection.call(api, version, body)

    def until(self, connection, api, version, body, accept, seconds=10):
        """Asks until the answer is accepted: for what a broker does a moment later."""
        deadline = time.monotonic() + seconds
        while True:
            answer = connection.call(api, version, body)
            if accept(answer) or time.monotonic() > deadline:
                return answer
            time.sleep(0.05)

    def clean(self, value, field=""):
        if field in PLACEHOLDERS:
            return "<any>"
        if isinstance(value, dict):
            return {k: self.clean(v, k) for k, v in value.items()}
        if isinstance(value, list):
            cleaned = [self.clean(v, field) for v in value]
            return sorted(cleaned, key=repr)
        if isinstance(value, str):
            return self.clean_text(value, field)
        if isinstance(value, bytes):
            return self.clean_bytes(value, field)
        if field == "ErrorCode" or field.endswith("ErrorCode"):
            return ERRORS.get(value, value)
        if field == "ProducerId" and value >= 0:
            return "<producer id>"
        if field == "LogAppendTimeMs" and value >= 0:
            return "<batch time>" if value == self.now else "<time>"
        return value

    def clean_text(self, value, field):
        if value == ZERO_UUID:
            return value
        return UUID.sub("<uuid>", value).replace(self.prefix, "<prefix>")

    def clean_bytes(self, value, field):
        if field != "Records":
            return value.hex()
        return [self.clean(b) for b in kafka_records.batch_headers(value)]


def only_known(fields, version, value):
    """The body without fields that this version has not: one body serves many versions."""
    known = {f.name: f for f in fields if version in f.versions}
    out = {}
    for name, v in value.items():
        f = known.get(name)
        if f is None:
            continue
        if f.children and isinstance(v, list):
            v = [only_known(f.children, version, item) for item in v]
        elif f.children and isinstance(v, dict):
            v = only_known(f.children, version, v)
        out[name] = v
    return out


def ranges(address):
    """What a broker advertises: api name -> versions."""
    names = {int(m.key): name for name, m in APIS.items()}
    with Connection(address) as c:
        answer = c.call("ApiVersions", 0, {})
    return {names[k["ApiKey"]]: range(k["MinVersion"], k["MaxVersion"] + 1)
            for k in answer["ApiKeys"] if k["ApiKey"] in names}


def both(a, b):
    return {api: range(max(r.start, b[api].start), min(r.stop, b[api].stop))
            for api, r in a.items() if api in b}


def frame(key, version, correlation=1, client=b"diff", body=b""):
    return struct.pack(">hhih", key, version, correlation, len(client)) + client + body
