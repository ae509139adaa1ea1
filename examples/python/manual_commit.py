"""Work first, commit after, and commit what is done before partitions are given away.
At least once: a crash repeats the records worked on since the last commit."""
from confluent_kafka import TopicPartition
from example import TOPIC, commit, consumer, poll, running, show, work

COMMIT_EVERY = 20
done = {}  # (topic, partition) -> next offset, not yet committed


def commit_done(c, _partitions=None):
    if done:
        offsets = [TopicPartition(t, p, o) for (t, p), o in done.items()]
        done.clear()
        commit(c, offsets=offsets, asynchronous=False)


c = consumer(enable_auto_commit=False)
c.subscribe([TOPIC], on_revoke=commit_done)
uncommitted = 0
try:
    while running():
        m = poll(c)
        if m is not None:
            work(m)
            show(m)
            done[m.topic(), m.partition()] = m.offset() + 1
            uncommitted += 1
        if m is None or uncommitted >= COMMIT_EVERY:
            commit_done(c)
            uncommitted = 0
finally:
    commit_done(c)
    c.close()
