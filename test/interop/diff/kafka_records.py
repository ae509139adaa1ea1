"""Record batches (magic 2) made and read by hand, also wrong ones."""
import struct

_CRC = []
for _i in range(256):
    for _ in range(8):
        _i = _i >> 1 ^ (0x82F63B78 if _i & 1 else 0)
    _CRC.append(_i)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def varint(n):
    n = n << 1 ^ n >> 63
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def record(index, key, value, time_delta=0):
    body = b"\0" + varint(time_delta) + varint(index)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(0)
    return varint(len(body)) + body


def batch(records, base_offset=0, magic=2, attributes=0, time=1_700_000_000_000, producer=-1,
          epoch=-1, sequence=-1, count=None, last_delta=None, crc=None, max_time=None, body=None):
    """records: (key, value) pairs of bytes or None, or a number of them that stand in body, as a
    codec left them. The other arguments can lie."""
    n = records if body is not None else len(records)
    if body is None:
        body = b"".join(record(i, k, v) for i, (k, v) in enumerate(records))
    tail = struct.pack(">hiqqqhii", attributes, n - 1 if last_delta is None else last_delta, time,
                       time if max_time is None else max_time, producer, epoch, sequence,
                       n if count is None else count) + body
    crc = crc32c(tail) if crc is None else crc
    return struct.pack(">qiibI", base_offset, len(tail) + 9, -1, magic, crc) + tail


def batch_headers(data):
    """What a test may compare of fetched batches: one dictionary a batch."""
    found, at = [], 0
    while len(data) - at >= 61:
        base, length, _epoch, magic, crc = struct.unpack_from(">qiibI", data, at)
        fields = struct.unpack_from(">hiqqqhii", data, at + 21)
        if at + 12 + length > len(data):
            break
        names = ("attributes", "last_delta", "time", "max_time", "producer", "epoch", "sequence",
                 "count")
        found.append({"base": base, "length": length, "magic": magic,
                      "crc_right": crc == crc32c(data[at + 21:at + 12 + length]),
                      **dict(zip(names, fields))})
        at += 12 + length
    return found
