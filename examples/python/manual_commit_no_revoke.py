"""Work first, commit after, as in many a tutorial: nothing is done when partitions are taken
away, so each rebalance repeats the records worked on since the last commit."""
from example import TOPIC, commit, consumer, poll, running, show, work

COMMIT_EVERY = 20

c = consumer(enable_auto_commit=False)
c.subscribe([TOPIC])
count = 0
try:
    while running():
        m = poll(c)
        if m is None:
            continue
        work(m)
        show(m)
        count += 1
        if count % COMMIT_EVERY == 0:
            commit(c, message=m, asynchronous=True)
finally:
    c.close()
