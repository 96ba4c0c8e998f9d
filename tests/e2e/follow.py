#!/usr/bin/env python3
"""A leader and its follower as real processes: the same bytes, file by file, whatever is killed."""

import filecmp
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

from harness import BINARY, expect, lines, main, run


def shard(server):
    """What the server says of its shard."""
    return json.loads(run("stat", "--server", server.address, "--json").stdout)["shards"][0]


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what.__doc__}")


def caught_up(leader, follower, seconds=90):
    def level():
        """the follower holds durably what its leader does"""
        ours, theirs = shard(leader)["watermarks"], shard(follower)
        return theirs["following"]["connected"] and theirs["watermarks"]["durable"] == ours["durable"] == ours["appended"]

    wait_for(level, seconds)


def log_files(server):
    """Segments, indexes and finish files of shard 0 that hold anything, by their names."""
    top = os.path.join(server.data, "shard-00")
    found = {}
    for day in sorted(os.listdir(top)):
        folder = os.path.join(top, day)
        if not day[0].isdigit() or not os.path.isdir(folder):
            continue
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if os.path.getsize(path) == 0:
                continue  # an index that nothing was written to yet
            with open(path, "rb") as file:
                if name.startswith("data") and file.read(4096).count(0) == 4096:
                    continue  # named ahead
            found[f"{day}/{name}"] = path
    return found


def expect_same(leader, follower):
    """Every file of the log, byte for byte. Returns how many and how large."""
    ours, theirs = log_files(leader), log_files(follower)
    expect(ours.keys() == theirs.keys(), f"the leader has {sorted(ours)}, the follower {sorted(theirs)}")
    for name in ours:
        expect(filecmp.cmp(ours[name], theirs[name], shallow=False), f"{name} differs")
    return len(ours), sum(os.path.getsize(path) for path in ours.values())


def leader_of(follower):
    return ["--follow", follower.address]


def pair(case):
    leader = case.server(name="leader")
    return leader, case.server(*leader_of(leader), name="follower", small=False)


def copies(case):
    """A follower that comes late takes history from disk, then the newest as it is made; it serves reads and refuses appends."""
    leader = case.server(name="leader")
    history = lines(300_000, width=150)
    leader.append("history", history)
    follower = case.server(*leader_of(leader), name="follower", small=False)
    caught_up(leader, follower)
    for number in range(30):
        leader.append("small", b"one small commit %d\n" % number)
    caught_up(leader, follower)
    expect(follower.read("history").stdout == history, "the follower serves other records")
    expect(len(follower.read("small").stdout.splitlines()) == 30, "a small commit is not at the follower")
    refused = run("append", "--server", follower.address, "--stream", "new", stdin=b"no\n", check=False)
    expect(refused.returncode != 0 and b"not_leader" in refused.stderr, f"a follower took an append: {refused.stderr}")
    said = shard(leader)["followers"]
    expect(len(said) == 1 and said[0]["lag"] == 0, f"the leader says {said}")
    # A clean stop moves what the tail holds; the follower gets that too, or asks for it later.
    follower.stop()
    leader.stop()
    again = case.server(name="leader")
    follower = case.server("--follow", again.address, name="follower", small=False)
    again.append("small", b"after a restart of both\n")
    caught_up(again, follower)
    again.stop()
    leader = case.server(name="leader", port=again.port)
    caught_up(leader, follower)
    files, size = expect_same(leader, follower)
    expect(run("verify", "--data", follower.data).returncode == 0, "verify is not content with the copy")
    return f"{files} files, {size} bytes, the same"


def kill_loop(case):
    """Either of them is killed again and again while a producer runs: nothing is lost, and the copy is exact in the end."""
    leader, follower = pair(case)
    ports = leader.port, follower.port
    text = lines(150_000, width=120)
    command = [BINARY, "append", "--server", leader.address, "--stream", "kill", "--batch-records", "20", "--retry", "120s"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def feed():
        for at in range(0, len(text), 60_000):
            client.stdin.write(text[at:at + 60_000])
            client.stdin.flush()
            time.sleep(0.03)
        client.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    dice = random.Random(7)
    kills = [0, 0]
    while feeder.is_alive() and sum(kills) < 16:
        time.sleep(dice.uniform(0.05, 0.6))
        which = dice.randrange(2)
        kills[which] += 1
        if which == 0:
            leader.kill()
            leader = case.server(name="leader", port=ports[0])
        else:
            follower.kill()
            follower = case.server(*leader_of(leader), name="follower", port=ports[1], small=False)
    feeder.join()
    client.wait(timeout=180)
    said = client.stderr.read().decode()
    expect(client.returncode == 0, f"append: exit {client.returncode}: {said[-300:]}")
    caught_up(leader, follower)
    expect(leader.read("kill").stdout == text, "the leader lost or doubled something")
    expect(follower.read("kill").stdout == text, "the follower serves something else")
    cuts = shard(follower)["following"]["cuts"]
    for server in (follower, leader):
        server.stop()
    # The leader's stop moved its tail; the follower takes that from a leader that is there.
    leader = case.server(name="leader", port=ports[0])
    follower = case.server(*leader_of(leader), name="follower", port=ports[1], small=False)
    caught_up(leader, follower)
    files, size = expect_same(leader, follower)
    for server in (leader, follower):
        server.kill()
        expect(run("verify", "--data", server.data).returncode == 0, f"verify is not content with {server.data}")
    expect(min(kills) >= 2, f"not killed often enough to mean anything: {kills}")
    return f"{kills[0]} kills of the leader, {kills[1]} of the follower, {cuts} cuts in the last life; {files} files, {size} bytes, the same"


def strangers(case):
    """Another log is refused and nothing of either changes; a new follower without a leader says what it needs."""
    leader, follower = pair(case)
    leader.append("s", lines(100))
    caught_up(leader, follower)
    follower.kill()
    other = case.server(name="other")
    other.append("s", lines(100))
    mixed = case.server(*leader_of(other), name="follower", small=False)

    def refused():
        """the follower says that this leader is not its own"""
        mixed.read_said(0.05)
        return "foreign" in mixed.said

    wait_for(refused, 20)
    mixed.read("s")  # it serves what its own leader proved durable
    mixed.stop()
    follower = case.server(*leader_of(leader), name="follower", small=False)
    leader.append("s", lines(100, first=100))
    caught_up(leader, follower)
    expect_same(leader, follower)
    with socket.socket() as nobody:  # has a port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        alone = case.server("--follow", f"127.0.0.1:{nobody.getsockname()[1]}", name="alone", small=False, wait=False)
        expect(alone.wait_for_end(30) != 0 and "learns what to be from the leader" in alone.said, f"it said {alone.said}")


if __name__ == "__main__":
    sys.exit(main("follow", [("copies", copies), ("kill_loop", kill_loop), ("strangers", strangers)]))
