"""How many bytes of a data directory are live: counted in the files, not asked of the server.

Live are: closed segments as long as they are, the open one up to its last group, the index, and what the tail holds that is not
in the segment yet. Apart from them stand the fixed parts, which do not grow with the data: the tail's ring, node.meta, the state
file, prepared segments.
"""

import pathlib

BLOCK = 4096
STEP = 1 << 20


def used_bytes(path):
    """Up to the last byte that is not zero, in whole blocks."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        at = size
        while at > 0:
            begin = max(at - STEP, 0)
            file.seek(begin)
            kept = len(file.read(at - begin).rstrip(b"\0"))
            if kept > 0:
                return begin + (kept + BLOCK - 1) // BLOCK * BLOCK
            at = begin
    return 0


def files_of(data):
    shard = pathlib.Path(data) / "shard-00"
    segments = sorted(shard.glob("????-??-??/data*"))
    indexes = sorted(shard.glob("????-??-??/index"))
    fixed = sum(path.stat().st_size for path in (shard / "tail", shard / "state", pathlib.Path(data) / "node.meta") if path.exists())
    pool = sum(path.stat().st_size for path in (shard / "pool").glob("seg-*"))
    # A segment that has its name and no byte yet is prepared too.
    while segments and used_bytes(segments[-1]) == 0:
        pool += segments.pop().stat().st_size
    return segments, indexes, fixed, pool


def summed(segments, indexes, fixed, pool, tail):
    closed = sum(path.stat().st_size for path in segments[:-1])
    opened = used_bytes(segments[-1]) if segments else 0
    index = sum(path.stat().st_size for path in indexes)
    return {"log": closed + opened, "index": index, "tail": tail, "live": closed + opened + index + tail, "fixed": fixed,
            "pool": pool, "segments": len(segments)}


def live_bytes(data, shard):
    """While it serves; `shard` is its part of `stat`, asked for after the last acknowledgement."""
    segments, indexes, fixed, pool = files_of(data)
    written = used_bytes(segments[-1]) if segments else 0
    tail = max(shard["segment_used"] - written, 0)
    return summed(segments, indexes, fixed, pool, tail)


def stopped_bytes(data):
    """After a clean stop, which moves the tail into the segment and writes the index out."""
    return summed(*files_of(data), 0)
