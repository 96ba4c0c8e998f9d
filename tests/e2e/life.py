#!/usr/bin/env python3
"""Starting, stopping, killing and doubling: what was acknowledged is there, once, in order."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

from harness import BINARY, Skip, expect, lines, main, run


def round_trip(case):
    server = case.server()
    text = b"first\r\n\nthird with \xff bytes\n" + lines(5000) + b"no newline at the end"
    server.append("text", text)
    expect(server.read("text").stdout == text + b"\n", "the text came back changed")
    raw = b"".join(len(record).to_bytes(4, "little") + record for record in (b"", b"\n", os.urandom(100_000), b"end"))
    server.append("raw", raw, "--delimiter", "len32")
    expect(server.read("raw", "--delimiter", "len32").stdout == raw, "arbitrary bytes came back changed")
    expect(server.read("text", "--from", "offset:2", "--count", "1").stdout == b"third with \xff bytes\n", "wrong record at offset 2")
    stat = run("stat", "--server", server.address).stdout.decode()
    expect("text" in stat and "raw" in stat, f"stat does not name the streams: {stat}")
    server.stop()
    expect(run("verify", "--data", server.data).stdout.startswith(b"sound"), "verify is not content")


def kill_loop(case):
    """A client that rides out kill -9 after kill -9 loses nothing and stores nothing twice."""
    server = case.server()
    port = server.port
    text = lines(120_000, width=100)
    source = case.path("input")
    with open(source, "wb") as file:
        file.write(text)
    command = [BINARY, "append", "--server", server.address, "--stream", "kill", "--batch-records", "20", "--retry", "60s"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def feed():
        for at in range(0, len(text), 60_000):
            client.stdin.write(text[at:at + 60_000])
            client.stdin.flush()
            time.sleep(0.02)
        client.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    dice = random.Random(11)
    kills = 0
    while feeder.is_alive() and kills < 8:
        time.sleep(dice.uniform(0.05, 0.5))
        server.kill()
        kills += 1
        server = case.server(port=port)
    feeder.join()
    client.wait(timeout=90)
    said = client.stderr.read().decode()
    expect(client.returncode == 0, f"append: exit {client.returncode}: {said[-300:]}")
    expect(server.read("kill").stdout == text, "what was acknowledged is not what is there")
    server.stop()
    expect(run("verify", "--data", server.data).returncode == 0, "verify is not content")
    expect(kills >= 3, "the server was not killed often enough to mean anything")
    return f"{kills} kills while 120000 records went in"


def sigterm_under_load(case):
    server = case.server()
    command = [BINARY, "append", "--server", server.address, "--stream", "load", "--retry", "30s"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    text = lines(400_000, width=200)
    feeder = threading.Thread(target=lambda: (client.stdin.write(text), client.stdin.close()))
    feeder.start()
    time.sleep(0.3)
    port = server.port
    took = server.stop()
    server = case.server(port=port)
    feeder.join()
    expect(client.wait(timeout=90) == 0, "the client did not get through")
    expect(server.read("load").stdout == text, "records were lost or doubled by a clean stop")
    server.stop()
    return f"SIGTERM under load took {took:.2f} s"


def fed(client, text):
    """A thread that gives a client its input, for as long as it takes it."""
    def feed():
        try:
            client.stdin.write(text)
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    return feeder


def sigterm_writes_the_index(case):
    """A clean stop in the middle of closing segments leaves a run of each closed one, and none of the open one, which is gone on in."""
    server = case.server()
    command = [BINARY, "append", "--server", server.address, "--stream", "indexed", "--batch-records", "8", "--retry", "1s", "--quiet"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    text = lines(400_000, width=200)

    feeder = fed(client, text)
    while json.loads(run("stat", "--server", server.address, "--json").stdout)["shards"][0]["segment_number"] < 3:
        time.sleep(0.01)
    server.stop()
    client.kill()
    client.wait()
    feeder.join()

    def verified():
        report = json.loads(run("verify", "--data", server.data, "--json").stdout)
        expect(report["damage_count"] == 0 and not report["notes"], f"verify: {report['notes']}")
        expect(report["index_runs"] == report["segments"] - 1 and report["index_runs_lacking"] == 0, f"{report}")
        return report

    before = verified()
    expect(before["segments"] >= 4, f"{before['segments']} segments")
    server = case.server()
    server.append("indexed", lines(3, first=1_000_000))
    server.stop()
    after = verified()
    expect(after["segments"] == before["segments"], "the next start did not go on in the open segment")
    return f"{before['index_runs']} closed segments of {before['segments']} are in the index, and {before['records']} records in all"


def follow_through_stops(case):
    """Who follows rides out clean stops as it rides out a crash, and hears nothing of them; so does who appends meanwhile."""
    server = case.server()
    port = server.port
    server.append("followed", lines(10))
    out = case.path("followed")
    with open(out, "wb") as file:
        reader = subprocess.Popen([BINARY, "read", "--server", server.address, "--stream", "followed", "--follow"], stdout=file, stderr=subprocess.PIPE)
    source = subprocess.Popen([BINARY, "append", "--server", server.address, "--stream", "followed"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    written = 10
    try:
        for _ in range(4):
            source.stdin.write(lines(5, first=written))
            source.stdin.flush()
            written += 5
            end = time.monotonic() + 20
            while os.path.getsize(out) < len(lines(written)):
                expect(time.monotonic() < end, f"the reader has {os.path.getsize(out)} of {len(lines(written))} bytes")
                expect(reader.poll() is None, f"the reader ended: {reader.poll()}")
                time.sleep(0.02)
            server.stop()
            time.sleep(0.3)
            server = case.server(port=port)
        time.sleep(0.5)
        expect(reader.poll() is None, f"read --follow ended, exit {reader.poll()}: {reader.stderr.read() if reader.poll() is not None else ''}")
        said = source.communicate(timeout=60)[1].decode()
        expect(source.returncode == 0, f"append: exit {source.returncode}: {said}")
        reader.terminate()
        expect(reader.communicate(timeout=20)[1] == b"", "a clean stop is nothing to tell")
        expect(reader.returncode == 0, f"exit {reader.returncode}")
    finally:
        for process in (reader, source):
            if process.poll() is None:
                process.kill()
    with open(out, "rb") as file:
        expect(file.read() == lines(written), "what was followed is not what was appended")


def sigterm_at_once(case):
    """A stop does not wait for what a start prepares: here a first segment that takes seconds."""
    free = shutil.disk_usage(case.folder).free
    if free < 30 * 10**9:
        raise Skip("disk_30_gb", f"{free / 1e9:.0f} GB are free")
    server = case.server("--segment-bytes", "4GiB", wait=False)
    pool = os.path.join(server.data, "shard-00", "pool")
    end = time.monotonic() + 20
    while not os.path.isdir(pool) or not any(name.endswith(".tmp") for name in os.listdir(pool)):
        server.read_said(0.005)
        expect(time.monotonic() < end and server.process.poll() is None, f"no segment is being prepared (exit {server.process.poll()}): {server.said}")
    took = server.stop()
    expect("stopped" in server.said and "error" not in server.said, server.said)
    expect(" serves " not in server.said, "the segment was ready at once: this says nothing")
    expect(os.listdir(pool) == [], f"left {os.listdir(pool)}")
    return f"stopped in {took:.2f} s while the first segment was being prepared"


def ask_to_end(process, signal_number, within=10):
    process.send_signal(signal_number)
    began = time.monotonic()
    process.wait(timeout=within)
    return time.monotonic() - began


def ctrl_c(case):
    """Ctrl-C ends what a client reads, not what it has sent: that is acknowledged, summed up, and stored. A second one ends it at once."""
    server = case.server()
    command = [BINARY, "append", "--server", server.address, "--stream", "cut", "--batch-records", "100"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    text = lines(2_000_000, width=200)

    feeder = fed(client, text)
    while not server.read("cut", check=False).stdout:
        time.sleep(0.02)
    ask_to_end(client, signal.SIGINT)
    said = client.stderr.read().decode()
    client.stderr.close()
    feeder.join()
    expect(client.returncode == 130, f"exit {client.returncode}: {said}")
    summed = re.match(r"(\d+) records, (\d+) bytes, [\d.]+ seconds, \d+ records/s, commit p50 ", said)
    expect(summed, f"this is no summary: {said}")
    stored = server.read("cut").stdout
    expect(text.startswith(stored) and len(stored) < len(text), f"{len(stored)} bytes of {len(text)} are stored")
    expect(int(summed.group(1)) == stored.count(b"\n"), f"{stored.count(bytes([10]))} records are stored, and it said {said}")

    idle = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    idle.stdin.write(lines(3))
    idle.stdin.flush()
    while not server.read("cut").stdout.endswith(lines(3)):
        time.sleep(0.02)
    ask_to_end(idle, signal.SIGTERM)
    said = idle.communicate()[1].decode()
    expect(idle.returncode == 143 and said.startswith("3 records, "), f"waiting for input: exit {idle.returncode}: {said}")

    reading = subprocess.Popen([BINARY, "read", "--server", server.address, "--stream", "cut"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    reading.stdout.read(1)
    reading.send_signal(signal.SIGINT)
    said = reading.communicate(timeout=20)[1]
    expect((reading.returncode, said) == (130, b""), f"read: exit {reading.returncode}: {said}")

    stuck = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    stuck.stdin.write(lines(3))
    stuck.stdin.flush()
    while server.read("cut").stdout.count(b"record 2\n") < 3:
        time.sleep(0.02)
    server.process.send_signal(signal.SIGSTOP)
    try:
        stuck.stdin.write(lines(3))
        stuck.stdin.flush()
        time.sleep(0.3)
        stuck.send_signal(signal.SIGINT)
        time.sleep(0.5)
        expect(stuck.poll() is None, "it did not wait for what it had sent")
        took = ask_to_end(stuck, signal.SIGINT)
    finally:
        server.process.send_signal(signal.SIGCONT)
    expect(stuck.returncode == -signal.SIGINT and took < 1, f"the second Ctrl-C: {stuck.returncode} after {took:.1f} s")
    stuck.communicate()
    server.expect_alive()
    server.stop()
    return f"interrupted after {summed.group(1)} of 2000000 records"


def two_servers(case):
    server = case.server()
    began = time.monotonic()
    second = case.server(wait=False)
    status = second.wait_for_end()
    took = time.monotonic() - began
    expect(status == 1 and "another process has" in second.said, f"exit {status}: {second.said}")
    expect(4 < took < 15, f"it gave up after {took:.1f} s")
    server.expect_alive()
    third = case.server(wait=False)
    time.sleep(1)
    server.stop()
    third.wait_until_serving()
    expect("waited" in third.said, "the wait for the lock is not reported")
    third.expect_alive()
    third.stop()


def port_in_use(case):
    server = case.server()
    second = case.server(name="other", port=server.port, wait=False)
    status = second.wait_for_end(60)
    expect(status == 1 and str(server.port) in second.said and "another program listens" in second.said, second.said)
    server.expect_alive()
    server.stop()


def restarts_are_quick(case):
    server = case.server()
    server.append("quick", lines(200_000, width=200))
    server.kill()
    times = []
    for _ in range(5):
        began = time.monotonic()
        server = case.server()
        times.append(time.monotonic() - began)
        server.kill()
    expect(min(times) < 1, f"{min(times):.2f} s at best to serve again after kill -9")
    return "serving again after kill -9 in " + ", ".join(f"{each * 1000:.0f}" for each in times) + " ms"


if __name__ == "__main__":
    sys.exit(main("life", [
        ("round_trip", round_trip),
        ("kill_loop", kill_loop),
        ("sigterm_under_load", sigterm_under_load),
        ("sigterm_writes_the_index", sigterm_writes_the_index),
        ("follow_through_stops", follow_through_stops),
        ("sigterm_at_once", sigterm_at_once),
        ("ctrl_c", ctrl_c),
        ("two_servers", two_servers),
        ("port_in_use", port_in_use),
        ("restarts_are_quick", restarts_are_quick),
    ]))
