#!/usr/bin/env python3
"""A restart costs the same whatever is stored: kill -9 with 20 GB, then again without the files that can be derived.

RESTART_GB is how much is stored (20), RESTART_WITHIN how long it may take (1 second; more for a sanitizer's build), and RESTART_JSON
names a file for the figures, for bench/measure.py.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

from harness import BINARY, Skip, expect, main, run

GB = 10**9
STORED = float(os.environ.get("RESTART_GB", "20")) * GB
SERVING_WITHIN = float(os.environ.get("RESTART_WITHIN", "1"))  # seconds, the wait for the killed process' lock apart
RECORD_BYTES = 4000


def chunk():
    """16 MiB of records that differ."""
    text = os.urandom(RECORD_BYTES)
    length = RECORD_BYTES.to_bytes(4, "little")
    return b"".join(length + number.to_bytes(8, "little") + text[8:] for number in range((16 << 20) // RECORD_BYTES))


def stat(server):
    return json.loads(run("stat", "--server", server.address, "--json").stdout)


def fill_and_kill(server):
    """Appends until enough is stored, and kills the server while it takes more."""
    command = [BINARY, "append", "--server", server.address, "--stream", "big", "--delimiter", "len32", "--retry", "1s"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    over = threading.Event()

    def feed():
        piece = chunk()
        try:
            while not over.is_set():
                client.stdin.write(piece)
        except (BrokenPipeError, ValueError):
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    shown = 0
    try:
        while (stored := stat(server)["shards"][0]["appended_bytes"]) < STORED:
            expect(client.poll() is None, "append ended before enough was stored")
            if stored > shown + 4 * GB:
                shown = stored
                print(f"{stored / GB:.0f} GB stored", flush=True)
            time.sleep(0.1)
        server.kill()
    finally:
        over.set()
        client.kill()
        client.wait()
        feeder.join()
    return stored


def start_again(case, record):
    """The server, and the seconds until its first commit, without the wait for the lock."""
    began = time.monotonic()
    server = case.server(small=False, timeout=400)
    started = time.monotonic() - began
    server.append("after", record)
    served = time.monotonic() - began
    server.read_said(0.2)
    waited = re.search(r"waited ([\d.]+) s for the process before", server.said)
    lock = float(waited.group(1)) if waited else 0.0
    return server, started - lock, served - lock, lock


def answers(server, count):
    """What readers are told in many places, by offset, time and id."""
    told = []
    middle = json.loads(server.read("big", "--from", f"offset:{count // 2}", "--count", "1", "--format", "json").stdout)
    places = ["earliest", *(f"offset:{count * part // 7}" for part in range(1, 7)), f"offset:{count - 3}",
              f"day:{middle['day']}", f"day:{middle['day']}:{count // 3}", f"time:{middle['time']}"]
    for place in places:
        told.append((place, server.read("big", "--from", place, "--count", "3", "--format", "json", timeout=400).stdout))
        expect(told[-1][1].count(b"\n") == 3, f"--from {place} gave {told[-1][1].count(bytes([10]))} records")
    return told


def delete_derivable(data):
    gone = glob.glob(os.path.join(data, "shard-*", "state")) + glob.glob(os.path.join(data, "shard-*", "????-??-??", "index"))
    size = sum(os.path.getsize(path) for path in gone)
    for path in gone:
        os.remove(path)
    expect(gone, "there was nothing derivable to delete")
    return size


def restart_with_much_stored(case):
    free = shutil.disk_usage(case.folder).free
    if STORED >= 20 * GB and free < 30 * GB:
        raise Skip("disk_30_gb", f"{free / GB:.0f} GB are free")
    server = case.server(small=False)
    data = server.data
    stored = fill_and_kill(server)
    server, started, served, lock = start_again(case, b"one\n")
    opening = stat(server)["shards"][0]["opening"]
    count = next(row["next_offset"] for row in stat(server)["streams"] if row["name"] == "big")
    before = answers(server, count)
    server.kill()

    derivable = delete_derivable(data)
    server, rebuilt, _, _ = start_again(case, b"two\n")
    progress = re.findall(r"shard 0: (.*\d+ of \d+ MiB)", server.said)
    began = time.monotonic()
    after = answers(server, count)
    answered = time.monotonic() - began
    streams = [(row["name"], row["next_offset"]) for row in stat(server)["streams"] if row["name"] == "big"]
    figures = {"stored_bytes": stored, "records": count, "started_s": round(started, 3), "first_commit_s": round(served, 3),
               "lock_wait_s": lock, "opening_reads": opening["reads"], "opening_bytes_read": opening["bytes_read"],
               "derivable_bytes": derivable, "rebuilt_s": round(rebuilt, 2), "rebuilt_s_per_gb": round(rebuilt / stored * GB, 3),
               "progress_lines": len(progress), "answers_s": round(answered, 2)}
    if os.environ.get("RESTART_JSON"):
        with open(os.environ["RESTART_JSON"], "w") as out:
            json.dump(figures, out)
    print(f"{stored / GB:.1f} GB, {count} records: first commit {served * 1000:.0f} ms after the start behind kill -9, "
          f"lock wait {lock:.1f} s; {opening['reads']} reads, {opening['bytes_read'] / 1e6:.1f} MB")
    print(f"without state and index ({derivable / 1e6:.1f} MB): serving after {rebuilt:.1f} s, {rebuilt / stored * GB:.2f} s/GB, "
          f"{len(progress)} lines of progress, such as: {progress[-1] if progress else '-'}")
    for (place, told), (_, again) in zip(before, after):
        expect(told == again, f"--from {place} is answered otherwise without the derivable files")
    expect(streams == [("big", count)], f"the tables came back otherwise: {streams}")
    expect(progress or rebuilt < 2, "no progress was shown")
    expect(served <= SERVING_WITHIN, f"serving after {served:.2f} s, not within {SERVING_WITHIN} s")


if __name__ == "__main__":
    sys.exit(main("restart_size", [("restart_with_much_stored", restart_with_much_stored)]))
