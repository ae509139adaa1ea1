#!/usr/bin/env python3
"""tally serve as a program: start, bad input, bad settings, stop, restart. Raw sockets only.

usage: test_serve.py [TALLY]       ends with "N passed, N failed"
SERVE_OPTIONS in the environment: given to each broker.
"""
import json
import os
import pathlib
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TALLY = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "build/tally")
PATIENCE_S = 20
SERVE_OPTIONS = os.environ.get("SERVE_OPTIONS", "").split()
FRAME_MAX = 104857600


class Server:
    def __init__(self, *options, data=None, before=None, lines=r"127\.0\.0\.1:(\d+)"):
        self.log = tempfile.TemporaryFile()
        place = ["--data", data] if data else ["--memory"]
        self.child = subprocess.Popen([TALLY, "serve", "--listen", "127.0.0.1:0", *SERVE_OPTIONS,
                                       *place, *options],
                                      stdout=subprocess.PIPE, stderr=self.log, preexec_fn=before)
        line = self.child.stdout.readline().decode()
        found = re.fullmatch(f"ready {lines}\n", line)
        if not found:
            self.child.wait(PATIENCE_S)
            raise AssertionError(f"no ready line but {line!r}: {self.logged()}")
        self.ports = [int(port) for port in found.groups()]
        self.port = self.ports[0]

    def logged(self):
        self.log.seek(0)
        return self.log.read().decode()

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        s.settimeout(PATIENCE_S)
        return s

    def rss_kb(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def stop(self, sig=signal.SIGTERM):
        self.child.send_signal(sig)
        status = self.child.wait(PATIENCE_S)
        rest = self.child.stdout.read()
        assert rest == b"", f"more than one line on stdout: {rest!r}"
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.terminate()  # a kill would leave the directory of --memory behind
            self.child.wait(PATIENCE_S)
        self.child.stdout.close()
        self.log.close()


def frame(api, version, body=b"", correlation=7, client=b"smoke"):
    head = struct.pack(">hhih", api, version, correlation, len(client)) + client
    return struct.pack(">i", len(head + body)) + head + body


def receive_exactly(s, n):
    got = b""
    while len(got) < n:
        part = s.recv(n - len(got))
        if not part:
            raise ConnectionError(f"closed after {len(got)} of {n} bytes")
        got += part
    return got


def receive(s):
    (size,) = struct.unpack(">i", receive_exactly(s, 4))
    return receive_exactly(s, size)


def is_closed(s):
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True


def api_versions(s):
    s.sendall(frame(18, 0))
    answer = receive(s)
    correlation, error, n = struct.unpack(">ihi", answer[:10])
    assert (correlation, error) == (7, 0), answer
    return {k: (a, z) for k, a, z in struct.iter_unpack(">hhh", answer[10:10 + 6 * n])}


def string(text):
    return struct.pack(">h", len(text)) + text


# ---- what is tested


def test_versions_lists_what_is_served():
    with Server() as b, b.connect() as s:
        apis = api_versions(s)
        assert apis[18] == (0, 5) and apis[0][0] == 0 and apis[12] == (0, 4), apis
        assert not any(k >= 20000 for k in apis), "the private apis are not advertised"
        for absent in (24, 25, 26, 28, 68, 76):
            assert absent not in apis, f"api {absent} is advertised and not served"


def test_versions_of_a_newer_client_is_answered_in_v0():
    with Server() as b, b.connect() as s:
        s.sendall(frame(18, 99, b"\0whatever"))
        answer = receive(s)
        assert struct.unpack(">ihihhh", answer) == (7, 35, 1, 18, 0, 5), answer
        assert api_versions(s)


def test_software_name_is_checked():
    for name, error in ((b"librdkafka", 0), (b"-bad-", 42), (b"", 42)):
        with Server() as b, b.connect() as s:
            body = b"\0" + bytes([len(name) + 1]) + name + b"\x051.0x" + b"\0"
            s.sendall(frame(18, 3, body))
            answer = receive(s)
            assert struct.unpack(">ih", answer[:6]) == (7, error), (name, answer)


def test_bad_frames_end_their_connection_and_no_other():
    bad = {
        "too large": struct.pack(">i", FRAME_MAX + 1),
        "negative length": struct.pack(">i", -1),
        "empty": struct.pack(">i", 0),
        "shorter than a header": struct.pack(">i", 3) + b"\0\0\0",
        "unknown api": frame(999, 0),
        "not served api": frame(4, 0),
        "unknown version": frame(3, 99),
        "old produce": frame(0, 2),
        "truncated body": frame(3, 1, struct.pack(">i", 1)),
        "lying array": frame(3, 1, struct.pack(">i", 0x7fffffff)),
        "lying string": frame(3, 1, struct.pack(">ih", 1, 30000) + b"x"),
        "negative array": frame(3, 0, struct.pack(">i", -7)),
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "tls": bytes.fromhex("160301020001000001fc0303") + b"\0" * 500,
    }
    with Server() as b, b.connect() as other:
        for why, data in bad.items():
            with b.connect() as s:
                s.sendall(data)
                assert is_closed(s), f"{why}: still open"
            api_versions(other)
        lines = [l for l in b.logged().splitlines() if " closed: " in l]
        assert len(lines) == len(bad), "one log line each:\n" + "\n".join(lines)


def test_bytes_behind_a_body_are_ignored():
    with Server() as b, b.connect() as s:
        for tail in (b"", b"\0", b"more"):
            s.sendall(frame(3, 1, struct.pack(">i", 0) + tail))
            assert receive(s)[:4] == struct.pack(">i", 7), tail
            api_versions(s)


def test_memory_is_bounded_by_what_arrived():
    with Server() as b:
        with b.connect() as s:
            api_versions(s)
        before = b.rss_kb()
        liars = [b.connect() for _ in range(100)]
        for s in liars:
            s.sendall(struct.pack(">i", FRAME_MAX) + b"\0" * 1000)
        with b.connect() as s:
            api_versions(s)
        grown = b.rss_kb() - before
        for s in liars:
            s.close()
        assert grown < 20000, f"{grown} KB for 100 KB that arrived"


def test_requests_of_one_connection_are_answered_in_order():
    with Server() as b, b.connect() as s:
        s.sendall(b"".join(frame(18, 0, correlation=i) for i in range(200)))
        for i in range(200):
            assert struct.unpack(">i", receive(s)[:4])[0] == i


def test_a_frame_may_come_byte_by_byte():
    with Server() as b, b.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(18, 0):
            s.sendall(bytes([byte]))
        assert receive(s)[:4] == struct.pack(">i", 7)


def test_half_close_still_gets_the_answer():
    with Server() as b, b.connect() as s:
        s.sendall(frame(18, 0))
        s.shutdown(socket.SHUT_WR)
        assert receive(s)[:4] == struct.pack(">i", 7)
        assert is_closed(s)


def test_idle_connections_are_closed():
    with Server("--set", "connections.max.idle.ms=100") as b, b.connect() as s:
        api_versions(s)
        assert is_closed(s)


def test_out_of_descriptors_pauses_and_goes_on():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with Server("--set", "max.connections=5") as b:
        first = [b.connect() for _ in range(5)]
        for s in first:
            api_versions(s)
        with b.connect() as late:
            late.sendall(frame(18, 0))
            for s in first:
                s.close()
            assert receive(late)[:4] == struct.pack(">i", 7)
        assert "accepting pauses" in b.logged()


def test_metadata_names_the_advertised_address():
    with Server("--advertise", "broker.example:1234") as b, b.connect() as s:
        s.sendall(frame(3, 1, struct.pack(">i", 0)))
        answer = receive(s)
        assert string(b"broker.example") + struct.pack(">i", 1234) in answer, answer


def test_stop_and_restart_keep_the_cluster_id():
    def cluster(b):
        with b.connect() as s:
            s.sendall(frame(3, 2, struct.pack(">i", 0)))
            answer = receive(s)
            return re.search(rb"\x00\x16([A-Za-z0-9_-]{22})", answer).group(1)

    with tempfile.TemporaryDirectory() as data:
        with Server(data=data) as b:
            first = cluster(b)
            assert b.stop() == 0, b.logged()
        with Server(data=data) as b:
            assert cluster(b) == first
            assert b.stop(signal.SIGINT) == 0, b.logged()
        with Server(data=data) as b:
            b.child.kill()
            b.child.wait()
        with Server(data=data) as b:
            assert cluster(b) == first


def wait_until_asked(b, api):
    """With network threads what others send later may be handled earlier."""
    with b.connect() as s:
        while f" asks {api} " not in b.logged():
            api_versions(s)


def test_a_parked_request_does_not_hold_up_the_stop():
    with Server("--trace") as b, b.connect() as s:
        body = string(b"g") + struct.pack(">ii", 10000, 60000) + string(b"") + string(b"consumer")
        body += struct.pack(">i", 1) + string(b"range") + struct.pack(">i", 4) + b"\0\0\0\0"
        s.sendall(frame(11, 2, body))
        wait_until_asked(b, "JoinGroup")
        assert b.stop() == 0, b.logged()
        assert is_closed(s)


def make_topic(s, name=b"t"):
    s.sendall(frame(3, 1, struct.pack(">i", 1) + string(name)))
    assert name in receive(s)


def park_fetch(s, max_wait_ms):
    body = struct.pack(">iiiib", -1, max_wait_ms, 1, 1 << 20, 0)
    body += struct.pack(">i", 1) + string(b"t") + struct.pack(">iiqi", 1, 0, 0, 1 << 20)
    s.sendall(frame(1, 4, body))


def test_parked_fetch_is_answered_empty_at_the_stop():
    with Server("--trace") as b, b.connect() as s:
        make_topic(s)
        park_fetch(s, 600000)
        wait_until_asked(b, "Fetch")
        assert b.stop() == 0, b.logged()
        answer = receive(s)
        assert answer[:4] == struct.pack(">i", 7) and answer.endswith(struct.pack(">ii", 0, 0)) \
            or answer.endswith(struct.pack(">ii", -1, 0)), answer
        assert is_closed(s)


def test_parked_fetch_of_a_client_that_is_gone_ends():
    with Server() as b, b.connect() as s:
        make_topic(s)
        park_fetch(s, 600000)
        s.shutdown(socket.SHUT_WR)
        assert receive(s)[:4] == struct.pack(">i", 7)
        assert is_closed(s)


def test_log_as_json():
    with Server("--log-json") as b:
        with b.connect() as s:
            s.sendall(frame(999, 0, client=b'a"\n'))
            assert is_closed(s)
        lines = [json.loads(line) for line in b.logged().splitlines()]
        assert any("api 999" in l["text"] and l["level"] == "warn" for l in lines), lines


def test_memory_directory_is_removed():
    with Server() as b:
        opened = [os.readlink(f"/proc/{b.child.pid}/fd/{fd}")
                  for fd in os.listdir(f"/proc/{b.child.pid}/fd")]
        places = {m.group(1) for m in (re.match(r"(.*/tally-[^/]+)/", p) for p in opened) if m}
        assert len(places) == 1, opened
        assert b.stop() == 0
        assert not os.path.exists(places.pop())


def fails(*options):
    done = subprocess.run([TALLY, "serve", *options], capture_output=True, timeout=PATIENCE_S,
                          text=True)
    assert done.returncode == 2, (options, done)
    assert done.stdout == "", done
    return done.stderr


def test_second_instance_names_the_first():
    with tempfile.TemporaryDirectory() as data, Server(data=data) as b:
        said = fails("--data", data, "--listen", "127.0.0.1:0")
        assert str(b.child.pid) in said, said


def test_an_address_that_is_not_ours():
    for host, why in (("no-such-host.invalid", "no such host"), ("192.0.2.1", "Cannot assign")):
        errors = fails("--memory", "--listen", f"{host}:0")
        assert why in errors and "--advertise" in errors, errors


def test_port_in_use():
    with Server() as b:
        said = fails("--memory", "--listen", f"127.0.0.1:{b.port}")
        assert "another program listens there" in said, said


def test_bad_options():
    said = fails("--memory", "--set", "num.partitons=3")
    assert "num.partitions" in said, said
    said = fails("--memory", "--set", "num.partitions=zero")
    assert "zero" in said and "num.partitions" in said, said
    assert "NAME=VALUE" in fails("--memory", "--set", "num.partitions")
    assert "not built yet" in fails("--memory", "--web", "127.0.0.1:0")
    assert "on or off" in fails("--memory", "--accounting", "maybe")
    assert "HOST:PORT" in fails("--memory", "--listen", "9092x")
    assert "exclude" in fails("--memory", "--data", "x")
    for n in ("0", "65", "two", ""):
        assert "a number from 1 to 64" in fails("--memory", "--io-threads", n)


def test_config_file():
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "server.properties")
        pathlib.Path(path).write_text("# a comment\n\nnum.io.threads=8\nnum.partitions = 3\n"
                                      "retries\\\n  .x=1\n")
        said = fails("--memory", "--config", path)
        assert f"{path}:5" in said and "retries.x" in said, said
        pathlib.Path(path).write_text("num.partitions=0\n")
        said = fails("--memory", "--config", path)
        assert f"{path}:1" in said and "at least 1" in said, said
        pathlib.Path(path).write_text("num.io.threads=8\nnum.partitions = 3\n")
        with Server("--config", path) as b:
            assert f"{path}:1: num.io.threads" in b.logged(), b.logged()
        assert "No such file" in fails("--memory", "--config", path + ".absent")


def net_threads(b):
    names = [t.read_text() for t in pathlib.Path(f"/proc/{b.child.pid}/task").glob("*/comm")]
    return names.count("tally-net\n")


def test_network_threads():
    by_setting = ["--set", "num.network.threads=2"]
    cases = [(["--io-threads", "3"], 3), (["--io-threads", "1"], 0),
             ([*by_setting, "--io-threads", "1"], 0)]
    for options, n in cases if SERVE_OPTIONS else [*cases, (by_setting, 2)]:
        with Server(*options) as b:
            assert net_threads(b) == n, options
            clients = [b.connect() for _ in range(7)]
            for s in clients:
                api_versions(s)
            for s in clients:
                s.close()
            assert b.stop() == 0, b.logged()


def test_several_listeners_each_tell_their_own_address():
    with Server("--listen", "localhost:0", "--advertise", "one.example:0", "--advertise",
                "two.example:77", lines=r"127\.0\.0\.1:(\d+),localhost:(\d+)") as b:
        for port, host, told in ((b.ports[0], b"one.example", b.ports[0]),
                                 (b.ports[1], b"two.example", 77)):
            with socket.create_connection(("localhost", port), PATIENCE_S) as s:
                s.settimeout(PATIENCE_S)
                s.sendall(frame(3, 0, struct.pack(">i", 0)))
                assert string(host) + struct.pack(">i", told) in receive(s)
    errors = fails("--listen", "127.0.0.1:0", "--advertise", "a:1", "--advertise", "b:2")
    assert "nothing listens" in errors, errors


def test_trace_shows_requests_and_answers():
    with Server("--trace") as b, b.connect() as s:
        make_topic(s)
        log = b.logged()
        for line in ("asks Metadata v1 {topics=[{name=\"t\"}]}", "gets Metadata v1 {brokers="):
            assert line in log, (line, log)


def test_help():
    done = subprocess.run([TALLY, "serve", "--help"], capture_output=True, text=True,
                          timeout=PATIENCE_S)
    assert done.returncode == 0 and "examples:" in done.stdout and not done.stderr, done


def run_all(names):
    tests = [(n, f) for n, f in sorted(names.items()) if n.startswith("test_") and callable(f)]
    failed = 0
    for name, run in tests:
        try:
            run()
            print(f"ok      {name}")
        except Exception as e:  # each failure is a line of its own, the others still run
            failed += 1
            print(f"FAILED  {name}: {type(e).__name__}: {e}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    run_all(globals())
