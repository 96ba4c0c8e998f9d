#!/usr/bin/env python3
"""`millrace verify --against`: a data directory beside a server that holds the same log, at rest, under load, and with a byte turned."""

import json
import os
import random
import shutil
import subprocess
import sys
import time

from follow import caught_up, leader_of, pair
from harness import BINARY, expect, lines, main, run


def against(server, other):
    """Exit status and what was found."""
    done = run("verify", "--data", server.data, "--against", other.address, "--json", check=False)
    expect(done.stdout, f"exit {done.returncode}: {done.stderr.decode()}")
    return done.returncode, json.loads(done.stdout)


def turn_byte(path, offset):
    """Returns what stands there now."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0] ^ 0xFF
        file.seek(offset)
        file.write(bytes([byte]))
    return byte


def equal_and_not(case):
    """Both sides, at rest: equal; one byte turned in a closed segment of either: its file and offset, and exit 1."""
    leader, follower = pair(case)
    leader.append("compared", lines(250_000, width=200))
    caught_up(leader, follower)
    for here, there in ((leader, follower), (follower, leader)):
        status, found = against(here, there)
        expect(status == 0 and found["difference_count"] == 0, f"exit {status}: {found}")
        expect(found["segments"] >= 3 and found["bytes"] > 45_000_000 and found["chains"] == found["segments"], f"{found}")
        expect(found["segments_not_there"] == 0 and found["segments_expired"] == 0, f"{found}")
    trials = 0
    for side in (leader, follower):
        other = follower if side is leader else leader
        day = sorted(name for name in os.listdir(os.path.join(side.data, "shard-00")) if name.startswith("20"))[0]
        for name in ("data000000", "data000001"):
            path = os.path.join(side.data, "shard-00", day, name)
            for offset in (random.randrange(4096), random.randrange(4096, 12_000_000), 16 * 2**20 - 1):
                byte = turn_byte(path, offset)
                for here, there in ((leader, follower), (follower, leader)):
                    status, found = against(here, there)
                    expect(status == 1 and found["difference_count"] == 1, f"byte {offset} of {name}: exit {status}: {found}")
                    one = found["differences"][0]
                    expect(one["file"].endswith(f"{day}/{name}") and one["offset"] == offset, f"byte {offset} of {name}: {one}")
                    mine, theirs = (f"0x{byte:02x}", f"0x{byte ^ 0xff:02x}") if here is side else (f"0x{byte ^ 0xff:02x}", f"0x{byte:02x}")
                    expect(one["what"] == f"{mine} here, {theirs} at the server", f"{one}")
                    trials += 1
                turn_byte(path, offset)
                expect(against(side, other)[0] == 0, "turned back, and still different")
    return f"{trials} turned bytes found, each at its place"


def under_load(case):
    """While a producer runs, nothing differs on either side, whenever one looks; with a byte turned it is found all the while."""
    leader, follower = pair(case)
    leader.append("before", lines(100_000, width=200))
    caught_up(leader, follower)
    producer = subprocess.Popen([BINARY, "append", "--server", leader.address, "--stream", "load"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    looks = compared = 0
    end = time.monotonic() + 8
    number = 0
    while time.monotonic() < end:
        producer.stdin.write(lines(20_000, first=number, width=100))
        number += 20_000
        for here, there in ((leader, follower), (follower, leader)):
            status, found = against(here, there)
            expect(status == 0, f"exit {status}: {found}")
            looks += 1
            compared += found["bytes"]
    day = sorted(name for name in os.listdir(os.path.join(leader.data, "shard-00")) if name.startswith("20"))[0]
    turn_byte(os.path.join(leader.data, "shard-00", day, "data000000"), 5_000_000)
    status, found = against(follower, leader)
    expect(status == 1 and found["differences"][0]["offset"] == 5_000_000, f"exit {status}: {found}")
    producer.stdin.close()
    expect(producer.wait(timeout=60) == 0, "the producer did not get through")
    return f"{looks} looks under load, {compared / 1e6:.0f} MB compared, 0 differences; 1 turned byte found"


def what_cannot_be_compared(case):
    """Another log, nobody there, no data directory: one sentence and exit 1, never 'equal'."""
    leader = case.server(name="leader")
    other = case.server(name="other")
    for server in (leader, other):
        server.append("a", lines(10))

    def refused(data, address, *words):
        done = run("verify", "--data", data, "--against", address, check=False, timeout=30)
        said = done.stderr.decode()
        expect(done.returncode == 1 and not done.stdout and said.count("\n") == 1, f"exit {done.returncode}: {done.stdout} {said}")
        expect(all(word in said for word in words), said)

    refused(leader.data, other.address, "another log")
    refused(case.path("nothing"), leader.address, "no data directory")
    port = other.port
    other.stop()
    refused(leader.data, f"127.0.0.1:{port}", "nobody listens")
    done = run("verify", "--data", leader.data, "--against", "nonsense", check=False)
    expect(done.returncode == 2 and b"HOST:PORT" in done.stderr, f"exit {done.returncode}: {done.stderr}")


def a_copy(case):
    """A stopped copy of the directory, older than the server: what both have is equal."""
    leader = case.server(name="leader")
    leader.append("a", lines(100_000, width=200))
    leader.stop()
    copy = case.path("copy")
    shutil.copytree(leader.data, copy)
    leader = case.server(name="leader")
    leader.append("a", lines(200_000, width=200))
    done = run("verify", "--data", copy, "--against", f"localhost:{leader.port}")
    expect(done.stdout.startswith(b"equal: "), done.stdout)
    done = run("verify", "--data", leader.data, "--against", leader.address, "--json")
    expect(json.loads(done.stdout)["bytes"] > 55_000_000, done.stdout)


if __name__ == "__main__":
    sys.exit(main("against", [
        ("equal_and_not", equal_and_not),
        ("under_load", under_load),
        ("what_cannot_be_compared", what_cannot_be_compared),
        ("a_copy", a_copy),
    ]))
