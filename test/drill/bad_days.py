#!/usr/bin/env python3
"""Commands that cannot be drilled, bad options, and Ctrl-C at many moments: said plainly, exit
status 2, no process and no temporary directory left behind.

    test/drill/bad_days.py [--tally build/tally]

What is tried here waits nearly all the time, so much of it runs side by side, each with a
temporary directory and a mark in the environment of its own.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import xml.dom.minidom

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONSUMER = str(ROOT / "build/examples/c/manual_commit")
QUICK = "heartbeat.interval.ms=300"
AT_ONCE = 8

args = None
passed = failed = 0
lock = threading.Lock()


def check(name, ok, detail=""):
    global passed, failed
    with lock:
        if ok:
            passed += 1
        else:
            failed += 1
            print(f"FAILED {name}: {detail}", flush=True)


class Day:
    """One thing that is tried."""
    def __init__(self, tmp):
        self.tmp = tmp
        self.env = dict(os.environ, TMPDIR=tmp, TALLY_BAD_DAY=os.path.basename(tmp))

    def run(self, *argv, timeout=120):
        return subprocess.run([args.tally, "drill", *argv], capture_output=True, text=True,
                              timeout=timeout, env=self.env)

    def start(self, *argv):
        return subprocess.Popen([args.tally, "drill", *argv], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, env=self.env)

    def left_over(self):
        """Processes that have our mark, and what is left in the temporary directory."""
        mark, found = self.env["TALLY_BAD_DAY"].encode() + b"\0", []
        for p in pathlib.Path("/proc").iterdir():
            if p.name.isdigit() and int(p.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if b"TALLY_BAD_DAY=" + mark in (p / "environ").read_bytes():
                        found.append(f"{p.name} {(p / 'cmdline').read_bytes()}")
        return found + os.listdir(self.tmp)


def message(day, name, status, expected, done):
    check(f"{name}: status", done.returncode == status, done)
    check(f"{name}: message", re.search(expected, done.stderr), done.stderr)
    check(f"{name}: left over", not day.left_over(), day.left_over())


SPAWN = "sleep 1234 & setsid sleep 1234 & "
COMMANDS = [
    ("does not exist", ["/no/such"], r'cannot run "/no/such": No such file or directory'),
    ("not in PATH", ["no-such-command"], r'cannot run "no-such-command": No such file'),
    ("not executable", ["/etc/passwd"], r"Permission denied"),
    ("a directory", ["/etc"], r"Permission denied|Is a directory"),
    ("exits at once", ["true"], r"ended 3 times before it had read a record \(exited with "
                                r"status 0\), saying nothing"),
    ("fails at once", ["sh", "-c", "echo out of luck >&2; exit 3"],
     r"status 3\); the last it said: out of luck"),
    ("kills itself", ["sh", "-c", "kill -9 $$"], r"killed by signal 9"),
    ("hangs", ["sleep", "1234"], r"no copy has sent a request to the broker"),
    ("ignores SIGTERM", ["sh", "-c", "trap '' TERM; sleep 1234"], r"no copy has sent a request"),
    ("forks and hangs", ["sh", "-c", SPAWN + "wait"], r"no copy has sent a request"),
    ("forks and exits", ["sh", "-c", SPAWN + "exit 0"], r"ended 3 times"),
    ("prints without end", ["yes"], r"no copy has sent a request"),
    ("one line without end", ["sh", "-c", "yes | tr -d '\\n'"], r"no copy has sent a request"),
    ("closes its output", ["sh", "-c", "exec >&- 2>&- sleep 1234"], r"no copy has sent a request"),
    ("wrong topic", ["sh", "-c", f"TALLY_TOPIC=other exec {CONSUMER}"], r"--topic other"),
]


def command(day, name, argv, expected):
    message(day, name, 2, expected, day.run("join", "--timeout", "3", "--", *argv))


OPTIONS = [
    (["join"], r"no command"),
    (["join", "--"], r"no command"),
    (["no-such", "--", "true"], r"no drill \"no-such\"; `tally drill list`"),
    (["--expect", "often", "--", "true"], r"at-least-once, at-most-once or exactly-once"),
    (["--evidence", "guess", "--", "true"], r"no --evidence \"guess\""),
    (["--evidence", "sql:postgres:x:y", "--", "true"], r"sql:postgres:URL:QUERY with a query"),
    (["--evidence", "topic:t", "--", "true"], r"comes in a later version"),
    (["--from-topic", "t", "--", "true"], r"the form is HOST:PORT"),
    (["--from-topic", "127.0.0.1:1/t", "--", "true"], r"--from-topic: .*127\.0\.0\.1:1"),
    (["--from-topic", "no.such.host.invalid:1/t", "--", "true"], r"--from-topic: .*no\.such"),
    (["--from-topic", "b:1/t", "--records", "x", "--", "true"], r"does not go with --records"),
    (["--bootstrap", "b:1", "--", "true"], r"comes with `tally proxy`"),
    (["--records", "/no/such", "--", "true"], r"/no/such: cannot open"),
    (["--copies", "0", "--", "true"], r"a number from 1 to 16"),
    (["--timeout", "soon", "--", "true"], r"a number from 1 to 86400"),
    (["--set", "num.partition=3", "--", "true"], r"num\.partitions"),
    (["--set", "num.partitions=x", "--", "true"], r"num\.partitions"),
    (["--match", "x", "--", "true"], r"needs \{key\}"),
    (["--keep", "/proc/no", "--", "true"], r"cannot make /proc/no"),
    (["--topic", "bad/name", "--", "true"], r"cannot make the topic \"bad/name\""),
    (["/no/such.drill", "--", "true"], r"/no/such.drill: cannot read: No such file"),
    (["/etc/", "--", "true"], r"/etc/: cannot read: "),
]
# A drill file of one's own: what it holds, and what is said of it.
FILES = [
    (b"drill mine\nwhen worked 3\ndo explode\n", r":3: no act \"explode\"; there are: kill, "),
    (b"drill mine\nwhen thirsty\n", r":2: no trigger \"thirsty\"; there are: ahead, "),
    (b"", r":1: no \"drill NAME\" line"),
    (b"\x7fELF\0\0\0\0", r":1: not a text file"),
    (b"# " + b"x" * 70000, r":1: longer than 65536 bytes"),
]


def options(day):
    for argv, expected in OPTIONS:
        done = day.run(*argv)
        message(day, argv, 2, expected, done)
        check(f"{argv}: one line", done.stderr.count("\n") <= 2, done.stderr)
    for text, expected in FILES:
        with tempfile.NamedTemporaryFile(suffix=".drill") as f:
            f.write(text)
            f.flush()
            message(day, f"file {text[:20]}", 2, re.escape(f.name) + expected,
                    day.run(f.name, "--", "true"))
    done = day.run("list")
    check("list", done.returncode == 0 and len(done.stdout.splitlines()) >= 12, done)
    done = day.run("show", "join")
    check("show", done.returncode == 0 and "drill join" in done.stdout, done)
    done = day.run("show", "no-such")
    check("show no-such", done.returncode == 2 and "no drill" in done.stderr, done)


def inconclusive(day, name, argv, why):
    """The control pass finds the evidence, or the consumer, not good enough: nobody is accused."""
    done = day.run("join", "--json", "--timeout", "25", *argv)
    check(f"{name}: status", done.returncode == 2, done)
    out = json.loads(done.stdout or '{"control": "", "drills": [{"why": ""}]}')
    check(f"{name}: control", out["control"] == "inconclusive", out)
    drill = out["drills"][0]
    check(f"{name}: why", re.search(why, drill["why"]), drill["why"])
    check(f"{name}: accuses nobody",
          not any(drill[k] for k in ("missed", "repeated", "unfinished")), drill)
    check(f"{name}: left over", not day.left_over(), day.left_over())


EVIDENCE = [
    ("silent", ["--", "sh", "-c", f"exec {CONSUMER} {QUICK} >/dev/null"],
     r"none of the 200 records"),
    ("on standard error", ["--", "sh", "-c", f"exec {CONSUMER} {QUICK} >&2"],
     r"standard error names them.*2>&1"),
    ("twice", ["--", "sh", "-c", f"{CONSUMER} {QUICK} | sed -u p"], r"every record shows twice"),
    ("half", ["--", "sh", "-c", f"{CONSUMER} {QUICK} | sed -u 's,.*/[0-9]*[02468] .*,,'"],
     r"\d+ of 2\d\d records were committed and do not show"),
    ("too slow", ["--timeout", "15", "--", "sh", "-c",
                  f"TALLY_WORK_MS=500 exec {CONSUMER} {QUICK}"],
     r"\d+ of 2\d\d records were not finished in time"),
]


def too_few(day):
    """A drill that needs another copy says so at once."""
    for case, why in (("leave", "needs more --copies"), ("session-timeout", "--copies 2 or more")):
        done = day.run(case, "--json", "--no-control", "--copies", "1", "--timeout", "60", "--",
                       CONSUMER, QUICK)
        drill = json.loads(done.stdout or '{"drills": [{}]}')["drills"][0]
        check(f"{case}, one copy: status", done.returncode == 2, done)
        check(f"{case}, one copy: why", why in drill.get("why", ""), drill)
        check(f"{case}, one copy: at once", drill.get("seconds", 99) < 50, drill)


def blind(day):
    """Without evidence nothing is called done, nor done once."""
    wrong = str(ROOT / "build/examples/c/manual_commit_no_revoke")
    for expect, status, why in (("exactly-once", 2, r"\d+ records were sent twice"),
                                ("at-least-once", 0, "every record was sent")):
        done = day.run("rolling-restart", "--json", "--evidence", "none", "--expect", expect, "--",
                       wrong, QUICK)
        drill = json.loads(done.stdout or '{"drills": [{}]}')["drills"][-1]
        check(f"blind, {expect}: status", done.returncode == status, done)
        check(f"blind, {expect}: why", re.search(why, drill.get("why", "")), drill)
        check(f"blind, {expect}: claims nothing", drill.get("processed") == 0 and
              drill.get("certainty") == "possible", drill)


def matched(day):
    """The same lines in a form of their own, told with --match."""
    match = ["--match", "worked p={partition} o={offset}"]
    own = ["sh", "-c", f"exec {CONSUMER} {QUICK} | sed -u 's,.*/\\(.*\\)/\\([0-9]*\\).*,"
                       "worked p=\\1 o=\\2,'"]
    done = day.run("--json", *match, "manual-commit-repeat", "--", *own)
    out = json.loads(done.stdout)
    check("match: control", out["control"] == "passed", out)


def stuck(day):
    """Every copy stops working after 150 records and keeps its partitions."""
    script = f"sh -c 'echo $$ >$TALLY_DIR/pid.$TALLY_INSTANCE; exec {CONSUMER} {QUICK}' | " \
             "(head -n 150; kill -STOP $(cat $TALLY_DIR/pid.$TALLY_INSTANCE); exec sleep 1234)"
    with tempfile.NamedTemporaryFile("w", suffix=".drill") as f:
        f.write("drill stuck\nrecords 900\nwhen worked 20\n")
        f.flush()
        done = day.run(f.name, "--json", "--timeout", "20", "--", "sh", "-c", script)
    out = json.loads(done.stdout or '{"drills": [{}]}')
    check("stuck: unfinished", len(out["drills"][-1].get("unfinished", [])) > 200, done)
    check("stuck: status", done.returncode == 1, done)
    check("stuck: left over", not day.left_over(), day.left_over())


def outputs(day):
    """--junit and --keep, and a drill file of one's own."""
    keep, junit = os.path.join(day.tmp, "keep"), os.path.join(day.tmp, "junit.xml")
    with tempfile.NamedTemporaryFile("w", suffix=".drill") as f:
        f.write("drill mine\ntitle two kills\nwhen worked 20\ndo kill\nwhen stable\n"
                "when worked 20\ndo kill\n")
        f.flush()
        done = day.run(f.name, "--junit", junit, "--keep", keep, "--expect", "exactly-once", "--",
                       CONSUMER, QUICK)
    check("own drill runs", done.returncode in (0, 1), done)
    check("broker is closed well", "error" not in done.stderr, done.stderr)
    suite = xml.dom.minidom.parse(junit).documentElement
    check("junit", suite.getAttribute("tests") == "1" and
          suite.getAttribute("failures") == str(done.returncode), suite.toxml())
    kept = sorted(os.listdir(os.path.join(keep, "mine")))
    check("kept", "copy-1.1.out" in kept and "broker" in kept, kept)
    done = day.run("join", "--timeout", "2", "--keep", keep, "--", "sleep", "1234")
    check("kept of what could not run", done.returncode == 2 and "error" not in done.stderr, done)
    done = day.run(f.name.replace(".drill", ""), "--junit", "/no/such/x.xml", "--", "true")
    check("junit unwritable", done.returncode == 2, done)


def interrupt(day, number, after):
    """Ctrl-C at a moment of a run, or SIGTERM, or a whole terminal going away."""
    child = day.start("session-timeout", "rolling-restart", "--", CONSUMER, QUICK)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(after)
    child.send_signal(number)
    try:
        _, err = child.communicate(timeout=25)
    except subprocess.TimeoutExpired:
        child.kill()
        _, err = child.communicate()
        err += " (did not end)"
    # Before its handlers stand a signal ends it the ordinary way: nothing was started then.
    check(f"interrupt after {after}: status", child.returncode in (2, -number),
          f"{child.returncode} {err}")
    check(f"interrupt after {after}: left over", not day.left_over(), day.left_over())


def killed(day):
    """Even SIGKILL to tally leaves no process: copies die with it."""
    child = day.start("join", "--", CONSUMER, QUICK)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(2)
    child.kill()
    child.communicate()
    for _ in range(200):
        left = [x for x in day.left_over() if "tally-drill" not in x]
        if not left:
            break
        subprocess.run(["true"], check=True)
    check("killed: left over", not left, left)


def try_it(part, *more):
    with tempfile.TemporaryDirectory(prefix="tally-bad-day.") as tmp:
        try:
            part(Day(tmp), *more)
        except Exception as e:  # noqa: BLE001: a test that breaks is a test that failed
            check(f"{part.__name__} {more}", False, repr(e))


def main():
    global args
    p = argparse.ArgumentParser()
    p.add_argument("--tally", default=str(ROOT / "build/tally"))
    args = p.parse_args()
    moments = [0.02, 0.1, 0.3, 0.8, 1.5, 2.5, 4, 5.5, 7, 9]
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    jobs = [(inconclusive, *e) for e in EVIDENCE] + [(matched,), (stuck,), (outputs,)]
    jobs += [(too_few,), (blind,)]
    jobs += [(interrupt, signals[i % 3], after) for i, after in reversed(list(enumerate(moments)))]
    jobs += [(command, *c) for c in COMMANDS] + [(options,), (killed,)]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda job: try_it(*job), jobs):
            pass
    print(f"bad days: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
