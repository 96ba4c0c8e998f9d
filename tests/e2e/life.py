#!/usr/bin/env python3
"""Starting, stopping, killing and doubling: what was acknowledged is there, once, in order."""

import os
import random
import shutil
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
        ("follow_through_stops", follow_through_stops),
        ("sigterm_at_once", sigterm_at_once),
        ("two_servers", two_servers),
        ("port_in_use", port_in_use),
        ("restarts_are_quick", restarts_are_quick),
    ]))
