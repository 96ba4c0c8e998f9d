"""The little of protocol/FORMAT.md that hostile clients need: frames with a right hash, and a hello."""

import ctypes
import ctypes.util
import struct

_xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
_xxhash.XXH3_64bits.restype = ctypes.c_uint64
_xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

_xxhash.XXH3_128bits.restype = type("Hash128", (ctypes.Structure,), {"_fields_": [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]})
_xxhash.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

APPEND, ACKS, BATCHES, READ_END = 4, 133, 135, 137
HELLO, OPEN_STREAM, READ, READ_CREDIT, STAT, PING = 1, 2, 5, 6, 8, 9
WELCOME, REFUSED, PONG = 129, 130, 139
ANY_SHARD = 0xFFFFFFFF


def hash64(data):
    return _xxhash.XXH3_64bits(bytes(data), len(data))


def header(kind, request_id=0, length=0, words=(0, 0, 0, 0), flags=0, version=1):
    fields = [0x3157524D, version, kind, flags, 0, request_id, length, 0, *words]
    fields[4] = hash64(struct.pack("<IBBHQQII4Q", *fields))
    return struct.pack("<IBBHQQII4Q", *fields)


def frame(kind, request_id=0, body=b"", **fields):
    return header(kind, request_id, len(body), **fields) + body + b"\0" * (-len(body) % 16)


def hello(name=b"e2e"):
    return frame(HELLO, 1, struct.pack("<HHI", len(name), 0, 0) + name, words=(1, 0, ANY_SHARD, 0))


def read_earliest(request_id, stream, credit):
    positions = struct.pack("<B3xIQ", 1, 0, 0) + struct.pack("<B3xIQ", 0, 0, 0)
    return frame(READ, request_id, positions, words=(hash64(stream), credit, 0, 0))


def producers_batch(stored, body):
    """The batch `stored` as its producer would have sent it, with another body of the same length; every hash fits."""
    head = bytearray(stored[:192])
    hashed = _xxhash.XXH3_128bits(bytes(body), len(body))
    head[16:32] = struct.pack("<QQ", hashed.low, hashed.high)
    for begin, end in ((8, 16), (32, 48), (56, 72), (80, 88), (104, 112), (112, 116), (116, 120), (120, 128)):
        head[begin:end] = bytes(end - begin)  # checksum, what the leader assigns, the producer
    head[8:16] = struct.pack("<Q", hash64(head))
    return bytes(head) + bytes(body)


def take_exactly(sock, length):
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise AssertionError("the server closed the connection")
        data += piece
    return data


def receive(sock):
    """(type, request id, flags, words, body) of the next frame."""
    fields = struct.unpack("<IBBHQQII4Q", take_exactly(sock, 64))
    length = fields[6]
    body = take_exactly(sock, length + -length % 16)[:length]
    return fields[2], fields[5], fields[3], fields[8:], body


def is_closed(sock):
    """True when the server closes without a further byte."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
