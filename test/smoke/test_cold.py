#!/usr/bin/env python3
"""Records that are not in the page cache are read by the disk's threads: the one that serves
everybody does not wait for the device. Disks are too fast to tell: a library in front of the
system's says of all records that they are not in memory.

usage: test_cold.py [TALLY]     ends with "N passed, N failed"
"""
import os
import pathlib
import shutil
import subprocess
import tempfile

from test_serve import ROOT, SERVE_OPTIONS, TALLY, run_all

RECORDS, SIZE = 40000, 1000


def tally(*arguments, **more):
    return subprocess.run([TALLY, *map(str, arguments)], check=True, capture_output=True, **more)


def never_cached(folder):
    """The library's path."""
    (folder / "cold.c").write_text("""
        #include <errno.h>
        #include <sys/uio.h>
        ssize_t preadv2(int fd, const struct iovec *to, int n, off_t at, int flags)
        {
            (void)fd, (void)to, (void)n, (void)at, (void)flags;
            errno = EAGAIN;
            return -1;
        }
        ssize_t preadv64v2(int fd, const struct iovec *to, int n, off_t at, int flags)
        {
            return preadv2(fd, to, n, at, flags);
        }
        """)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "cold.so", folder / "cold.c"],
                   check=True)
    return folder / "cold.so"


def read_by_pool(pid):
    """Bytes that its other threads have read from files; the first is the one that serves."""
    done = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if int(task.name) != pid:
            fields = dict(line.split(": ") for line in (task / "io").read_text().splitlines())
            done += int(fields["rchar"])
    return done


def test_cold_records_are_read_beside_the_loop():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tally-cold."))
    server = subprocess.Popen([TALLY, "serve", "--listen", "127.0.0.1:0", "--data",
                               folder / "data", *SERVE_OPTIONS],
                              env={**os.environ, "LD_PRELOAD": str(never_cached(folder))},
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = server.stdout.readline().split()[1]
        tally("topic", "create", "cold", "--bootstrap", address)
        lines = b"".join(b"%0*d\n" % (SIZE, i) for i in range(RECORDS))
        tally("produce", "cold", "--bootstrap", address, input=lines)
        before = read_by_pool(server.pid)
        got = subprocess.run(["kcat", "-b", address, "-C", "-t", "cold", "-e", "-q"], check=True,
                             capture_output=True, timeout=60).stdout
        assert got == lines, (len(got), len(lines))
        read = read_by_pool(server.pid) - before
        assert read > 0.9 * RECORDS * SIZE, read
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    run_all(globals())
