"""What all Python examples share: settings from the environment, the work, a clean stop."""
import os
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException

TOPIC = os.environ.get("TALLY_TOPIC", "example")
GROUP = os.environ.get("TALLY_GROUP", "example")
INSTANCE = os.environ.get("TALLY_INSTANCE", "example")
RESET = os.environ.get("TALLY_RESET", "earliest")
WORK_S = float(os.environ.get("TALLY_WORK_MS", "2")) / 1000

_stopping = False


def _on_signal(_signal, _frame):
    global _stopping
    _stopping = True


def running():
    return not _stopping


def consumer(**settings):
    """A consumer; keyword arguments are settings with _ for the dots."""
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, _on_signal)
    conf = {
        "bootstrap.servers": os.environ.get("TALLY_BOOTSTRAP", "127.0.0.1:9092"),
        "group.id": GROUP,
        "client.id": INSTANCE,
        "auto.offset.reset": RESET,
    }
    conf.update({name.replace("_", "."): value for name, value in settings.items()})
    conf.update(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    return Consumer(conf)


def poll(c):
    """The next record, or None when there was none for a while. Errors are printed."""
    m = c.poll(0.1)
    if m is not None and m.error():
        print(f"consume: {m.error()}", file=sys.stderr)
        return None
    return m


def work(_message):
    time.sleep(WORK_S)


def show(m):
    key = (m.key() or b"").decode(errors="replace")
    print(f"{m.topic()}/{m.partition()}/{m.offset()} {key}", flush=True)


def commit(c, **arguments):
    try:
        c.commit(**arguments)
    except KafkaException as e:
        print(f"commit: {e}", file=sys.stderr)
