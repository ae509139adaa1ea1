"""Commit first, work after: at most once. What is in hand when the process dies is missed."""
from example import TOPIC, commit, consumer, poll, running, show, work

c = consumer(enable_auto_commit=False)
c.subscribe([TOPIC])
try:
    while running():
        m = poll(c)
        if m is None:
            continue
        commit(c, message=m, asynchronous=False)
        work(m)
        show(m)
finally:
    c.close()
