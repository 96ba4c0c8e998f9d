#!/usr/bin/env python3
"""A follower takes over, with real processes: asked politely, after kill -9, and from a leader that was stopped and wakes up."""

import os
import signal
import subprocess
import sys
import threading
import time

from follow import caught_up, expect_same, leader_of, pair, shard, wait_for
from harness import BINARY, expect, lines, main, run


class Feed:
    """`append` of numbered lines to whichever of the servers leads, until it is told to end."""

    def __init__(self, *servers, stream="fed"):
        self.text = b""
        self.running, self.paused = True, False
        self.still = threading.Event()
        addresses = ",".join(server.address for server in servers)
        command = [BINARY, "append", "--server", addresses, "--stream", stream, "--batch-records", "10", "--retry", "60s"]
        self.client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.running:
            if self.paused:
                self.still.set()
                time.sleep(0.01)
                continue
            piece = lines(50, first=len(self.text) // 40)
            self.text += piece
            self.client.stdin.write(piece)
            self.client.stdin.flush()
            time.sleep(0.01)
        self.client.stdin.close()

    def pause(self):
        self.still.clear()
        self.paused = True
        self.still.wait()

    def end(self):
        self.running, self.paused = False, False
        self.thread.join()
        self.client.wait(timeout=90)
        said = self.client.stderr.read().decode()
        expect(self.client.returncode == 0, f"append: exit {self.client.returncode}: {said[-300:]}")
        return self.text


def promote(server, *flags, check=True):
    return run("promote", "--server", server.address, *flags, check=check)


def planned(case):
    """The leader answers: it stops, the follower has all, producers go on, and the old leader follows."""
    leader, follower = pair(case)
    feed = Feed(leader, follower)
    time.sleep(1)
    said = promote(follower).stdout.decode()
    expect("leads from" in said and "all of that is here" in said, said)
    time.sleep(1)
    text = feed.end()
    expect(follower.read("fed").stdout == text, "records are lost, doubled or out of order")
    role = shard(leader)["role"], shard(follower)["role"]
    expect(role == ("deposed", "leader"), f"roles: {role}")
    refused = leader.append("fed", b"no\n", check=False)
    expect(refused.returncode != 0 and b"not_leader" in refused.stderr, f"the old leader took an append: {refused.stderr}")
    leader.kill()
    alone = case.server(name="leader", port=leader.port, wait=False, small=False)
    expect(alone.wait_for_end() != 0 and "promoted over this one" in alone.said, f"it said {alone.said[-300:]}")
    # The new leader comes back as one, whatever its command line says of the old one.
    follower.kill()
    follower = case.server("--follow", leader.address, name="follower", port=follower.port, small=False)
    expect(shard(follower)["role"] == "leader", "it follows again")
    old = case.server("--follow", follower.address, name="leader", port=leader.port, small=False)
    follower.append("fed", b"after all that\n")
    caught_up(follower, old)
    expect(old.read("fed").stdout == text + b"after all that\n", "the old leader serves something else")
    files, size = expect_same(follower, old)
    return f"{len(text) // 40} records; {files} files, {size} bytes, the same"


def killed(case):
    """The leader is gone: without --accept-loss nothing happens, with it producers go on; the old one comes back as a follower."""
    leader, follower = pair(case)
    feed = Feed(leader, follower)
    time.sleep(1)
    feed.pause()
    caught_up(leader, follower)
    leader.kill()
    refused = promote(follower, check=False)
    expect(refused.returncode == 1 and b"--accept-loss" in refused.stderr, f"it said {refused.stdout} {refused.stderr}")
    expect(shard(follower)["role"] == "follower", "it leads without being told to accept a loss")
    promote(follower, "--accept-loss")
    feed.paused = False
    time.sleep(1)
    text = feed.end()
    expect(follower.read("fed").stdout == text, "records are lost, doubled or out of order")
    old = case.server("--follow", follower.address, name="leader", port=leader.port, small=False)
    caught_up(follower, old)
    expect(old.read("fed").stdout == text, "the old leader serves something else")
    files, size = expect_same(follower, old)
    return f"{len(text) // 40} records; {files} files, {size} bytes, the same"


def stopped(case):
    """SIGSTOP over a promotion: what waits at the old leader when it wakes is not acknowledged, and not appended anywhere."""
    leader, follower = pair(case)
    feed = Feed(leader, follower)
    time.sleep(1)
    feed.pause()
    caught_up(leader, follower)
    # Clients with a connection: what they send while the leader sleeps is the first thing it finds.
    bound = [subprocess.Popen([BINARY, "append", "--server", leader.address, "--stream", f"bound{number}", "--retry", "20s"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for number in range(4)]
    for client in bound:
        client.stdin.write(b"in time\n")
        client.stdin.flush()
    time.sleep(1)
    caught_up(leader, follower)
    leader.process.send_signal(signal.SIGSTOP)
    for client in bound:
        client.stdin.write(b"too late\n")
        client.stdin.close()
    late = [subprocess.Popen([BINARY, "append", "--server", leader.address, "--stream", f"late{number}", "--retry", "20s"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for number in range(4)]
    for client in late:
        client.stdin.write(b"too late\n")
        client.stdin.close()
    promote(follower, "--accept-loss")
    feed.paused = False
    time.sleep(1)
    leader.process.send_signal(signal.SIGCONT)
    text = feed.end()
    for client in late + bound:
        expect(client.wait(timeout=60) != 0, "the old leader acknowledged after another one took over")

    def deposed():
        """the old leader knows"""
        return shard(leader)["role"] == "deposed"

    wait_for(deposed, 20)
    expect(follower.read("fed").stdout == text, "records are lost, doubled or out of order")
    leader.kill()
    old = case.server("--follow", follower.address, name="leader", port=leader.port, small=False)
    caught_up(follower, old)
    files, size = expect_same(follower, old)
    return f"{len(text) // 40} records; {files} files, {size} bytes, the same"


def alone(case):
    """What an old leader acknowledged while nobody followed goes to quarantine when it comes back: files over several segments."""
    leader, follower = pair(case)
    leader.append("kept", lines(2000))
    caught_up(leader, follower)
    follower.process.send_signal(signal.SIGSTOP)
    leader.append("alone", lines(250_000, width=150))
    leader.kill()
    follower.process.send_signal(signal.SIGCONT)
    promote(follower, "--accept-loss")
    follower.append("kept", lines(2000, first=2000))
    old = case.server("--follow", follower.address, name="leader", port=leader.port, small=False)
    caught_up(follower, old)
    expect(old.read("kept").stdout == lines(4000), "the old leader serves something else")
    # What was on its way to the follower came; of the rest nothing is served.
    served = follower.read("alone", check=False).stdout
    expect(len(served) < 30_000_000 and lines(250_000, width=150).startswith(served), f"{len(served)} bytes are served")
    expect(old.read("alone", check=False).stdout == served, "the old leader serves something else")
    follower.append("grown", lines(150_000, width=150))
    caught_up(follower, old)
    old.kill()
    old = case.server("--follow", follower.address, name="leader", port=leader.port, small=False)
    caught_up(follower, old)
    expect(old.read("grown").stdout == lines(150_000, width=150), "the old leader serves something else")
    files, size = expect_same(follower, old)
    kept = os.listdir(os.path.join(old.data, "shard-00", "quarantine"))
    expect(any(name.startswith("diverged") for name in kept), f"quarantine holds {kept}")
    return f"{files} files, {size} bytes, the same; quarantine holds {len(kept)} files"


if __name__ == "__main__":
    sys.exit(main("promote", [("planned", planned), ("killed", killed), ("stopped", stopped), ("alone", alone)]))
