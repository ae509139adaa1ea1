#!/usr/bin/env python3
"""Commands that cannot be drilled, bad options, and Ctrl-C at many moments: said plainly, exit
status 2, no process and no temporary directory left behind.

    test/drill/bad_days.py [--tally build/tally]
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import xml.dom.minidom

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONSUMER = str(ROOT / "build/examples/c/manual_commit")
QUICK = "heartbeat.interval.ms=300"

args = None
passed = failed = 0
tmp = None


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {detail}", flush=True)


def environ(**more):
    return dict(os.environ, TMPDIR=tmp, **more)


def left_over(token):
    """Processes whose environment holds the token, and what is left in TMPDIR."""
    found = []
    for p in pathlib.Path("/proc").iterdir():
        if p.name.isdigit() and int(p.name) != os.getpid():
            try:
                if token.encode() in (p / "environ").read_bytes():
                    found.append(f"{p.name} {(p / 'cmdline').read_bytes()}")
            except OSError:
                pass
    return found + os.listdir(tmp)


def run(*argv, timeout=120, token="TALLY_TEST_NONE=1"):
    name, value = token.split("=")
    return subprocess.run([args.tally, "drill", *argv], capture_output=True, text=True,
                          timeout=timeout, env=environ(**{name: value}))


def commands():
    """Commands that cannot be drilled."""
    spawn = "sleep 1234 & setsid sleep 1234 & "
    cases = [
        ("does not exist", ["/no/such"], r'cannot run "/no/such": No such file or directory'),
        ("not executable", ["/etc/passwd"], r"Permission denied"),
        ("exits at once", ["true"], r"ended 3 times before it had read a record \(exited with "
                                    r"status 0\), saying nothing"),
        ("fails at once", ["sh", "-c", "echo out of luck >&2; exit 3"],
         r"status 3\); the last it said: out of luck"),
        ("kills itself", ["sh", "-c", "kill -9 $$"], r"killed by signal 9"),
        ("hangs", ["sleep", "1234"], r"no copy has sent a request to the broker"),
        ("forks and hangs", ["sh", "-c", spawn + "wait"], r"no copy has sent a request"),
        ("forks and exits", ["sh", "-c", spawn + "exit 0"], r"ended 3 times"),
        ("prints without end", ["yes"], r"no copy has sent a request"),
        ("wrong topic", ["sh", "-c", f"TALLY_TOPIC=other exec {CONSUMER}"], r"--topic other"),
    ]
    for i, (name, command, expected) in enumerate(cases):
        token = f"TALLY_BAD_DAY={os.getpid()}.{i}"
        done = run("join", "--timeout", "4", "--", *command, token=token)
        check(f"{name}: status", done.returncode == 2, done)
        check(f"{name}: message", re.search(expected, done.stderr), done.stderr)
        check(f"{name}: left over", not left_over(token), left_over(token))


def options():
    cases = [
        (["join"], r"no command"),
        (["no-such", "--", "true"], r"no drill \"no-such\"; `tally drill list`"),
        (["--expect", "often", "--", "true"], r"at-least-once, at-most-once or exactly-once"),
        (["--evidence", "guess", "--", "true"], r"no --evidence \"guess\""),
        (["--evidence", "sql:postgres:x:y", "--", "true"], r"not built yet"),
        (["--from-topic", "b/t", "--", "true"], r"not built yet"),
        (["--bootstrap", "b:1", "--", "true"], r"not built yet"),
        (["--records", "/no/such", "--", "true"], r"/no/such: cannot open"),
        (["--copies", "0", "--", "true"], r"a number from 1 to 16"),
        (["--set", "num.partition=3", "--", "true"], r"num\.partitions"),
        (["--set", "num.partitions=x", "--", "true"], r"num\.partitions"),
        (["--match", "x", "--", "true"], r"needs \{key\}"),
    ]
    for argv, expected in cases:
        done = run(*argv)
        check(f"{argv}: status", done.returncode == 2, done)
        check(f"{argv}: message", re.search(expected, done.stderr), done.stderr)
        check(f"{argv}: one line", done.stderr.count("\n") <= 2, done.stderr)
    with tempfile.NamedTemporaryFile("w", suffix=".drill") as f:
        f.write("drill mine\nwhen worked 3\ndo explode\n")
        f.flush()
        done = run(f.name, "--", "true")
        check("own drill: line", f"{f.name}:3: no act \"explode\"" in done.stderr, done.stderr)
        check("own drill: status", done.returncode == 2, done)
    done = run("list")
    check("list", done.returncode == 0 and len(done.stdout.splitlines()) >= 12, done)
    done = run("show", "join")
    check("show", done.returncode == 0 and "drill join" in done.stdout, done)


def evidence():
    """What the control pass finds wrong with the evidence."""
    silent = ["sh", "-c", f"exec {CONSUMER} {QUICK} >/dev/null"]
    done = run("join", "--json", "--", *silent)
    out = json.loads(done.stdout)
    check("silent: status", done.returncode == 2, done)
    check("silent: control", out["control"] == "inconclusive", out)
    drill = out["drills"][0]
    check("silent: why", "none of the 200 records" in drill["why"], drill)
    check("silent: accuses nobody", not drill["missed"] and not drill["repeated"], drill)
    twice = ["sh", "-c", f"{CONSUMER} {QUICK} | sed -u p"]
    done = run("join", "--json", "--", *twice)
    out = json.loads(done.stdout)
    check("twice: status", done.returncode == 2, done)
    check("twice: why", "every record shows twice" in out["drills"][0]["why"], out)
    # The same lines in a form of their own, told with --match.
    match = ["--match", "worked p={partition} o={offset}"]
    own = ["sh", "-c", f"exec {CONSUMER} {QUICK} | sed -u 's,.*/\\(.*\\)/\\([0-9]*\\).*,"
                       "worked p=\\1 o=\\2,'"]
    done = run("--json", *match, "manual-commit-repeat", "--", *own)
    out = json.loads(done.stdout)
    check("match: control", out["control"] == "passed", out)


def outputs():
    """--junit and --keep, and a drill file of one's own."""
    keep = os.path.join(tmp, "keep")
    junit = os.path.join(tmp, "junit.xml")
    with tempfile.NamedTemporaryFile("w", suffix=".drill") as f:
        f.write("drill mine\ntitle two kills\nwhen worked 20\ndo kill\nwhen stable\n"
                "when worked 20\ndo kill\n")
        f.flush()
        done = run(f.name, "--junit", junit, "--keep", keep, "--expect", "exactly-once", "--",
                   CONSUMER, QUICK)
    check("own drill runs", done.returncode in (0, 1), done)
    suite = xml.dom.minidom.parse(junit).documentElement
    check("junit", suite.getAttribute("tests") == "1" and
          suite.getAttribute("failures") == str(done.returncode), suite.toxml())
    kept = sorted(os.listdir(os.path.join(keep, "mine")))
    check("kept", "copy-1.1.out" in kept and "broker" in kept, kept)
    subprocess.run(["rm", "-rf", keep, junit], check=True)


def interrupts():
    """Ctrl-C at moments spread over a run, and SIGTERM, and a whole terminal going away."""
    for i, after in enumerate([0.02, 0.1, 0.3, 0.8, 1.5, 2.5, 4, 5.5, 7, 9]):
        number = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP][i % 3]
        token = f"TALLY_BAD_DAY={os.getpid()}.i{i}"
        child = subprocess.Popen([args.tally, "drill", "session-timeout", "rolling-restart", "--",
                                  CONSUMER, QUICK], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True,
                                 env=environ(TALLY_BAD_DAY=token.split("=")[1]))
        try:
            child.wait(after)
        except subprocess.TimeoutExpired:
            pass
        child.send_signal(number)
        try:
            _, err = child.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            _, err = child.communicate()
            err += " (did not end)"
        # Before its handlers stand a signal ends it the ordinary way: nothing was started then.
        check(f"interrupt after {after}: status", child.returncode in (2, -number),
              f"{child.returncode} {err}")
        check(f"interrupt after {after}: left over", not left_over(token), left_over(token))
        for name in os.listdir(tmp):
            subprocess.run(["rm", "-rf", os.path.join(tmp, name)], check=True)


def killed():
    """Even SIGKILL to tally leaves no process: copies die with it."""
    token = f"TALLY_BAD_DAY={os.getpid()}.k"
    child = subprocess.Popen([args.tally, "drill", "join", "--", CONSUMER, QUICK],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env=environ(TALLY_BAD_DAY=token.split("=")[1]))
    try:
        child.wait(2)
    except subprocess.TimeoutExpired:
        pass
    child.kill()
    child.wait()
    for _ in range(200):
        left = [x for x in left_over(token) if "tally-drill" not in x]
        if not left:
            break
        try:
            subprocess.run(["true"], check=True)
        finally:
            pass
    check("killed: left over", not left, left)


def main():
    global args, tmp
    p = argparse.ArgumentParser()
    p.add_argument("--tally", default=str(ROOT / "build/tally"))
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="tally-bad-days.") as tmp:
        for part in (options, commands, evidence, outputs, interrupts, killed):
            part()
    print(f"bad days: {passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
