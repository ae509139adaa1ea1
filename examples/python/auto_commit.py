"""The client commits by itself, every auto.commit.interval.ms (5 s), whatever poll() has
returned so far: also the record that is still being worked on."""
from example import TOPIC, consumer, poll, running, show, work

c = consumer(enable_auto_commit=True)
c.subscribe([TOPIC])
try:
    while running():
        m = poll(c)
        if m is None:
            continue
        work(m)
        show(m)
finally:
    c.close()
