#!/usr/bin/env python3
"""What readers are told of what is no longer there, the same by a server and by its directory."""

import json
import signal
import sys
import time

from harness import expect, lines, main, run


def segments_dropped(case):
    """A server whose retention has taken whole segments; gives it, what was appended, and the first record left."""
    server = case.server("--retain-bytes", "64MiB")
    text = lines(500_000, width=200)
    server.append("kept", text)
    end = time.monotonic() + 60
    while True:
        left = server.read("kept", "--count", "1").stdout
        if left != lines(1, width=200):
            break
        expect(time.monotonic() < end, "retention has taken nothing")
        time.sleep(0.2)
    time.sleep(1)
    left = server.read("kept", "--count", "1").stdout
    return server, text, int(left.split()[-1])


def both_ways(server, *flags):
    """Exit code, what was printed and what was said, of the server and of its directory."""
    results = []
    for source in (("--server", server.address), ("--data", server.data)):
        done = run("read", *source, *flags, check=False)
        results.append((done.returncode, done.stdout, done.stderr.decode()))
    expect(results[0] == results[1], f"read {' '.join(flags)}: the server says {results[0][0], results[0][1][:60], results[0][2]}, "
                                     f"its directory {results[1][0], results[1][1][:60], results[1][2]}")
    return results[0]


def expired(case):
    server, text, first = segments_dropped(case)
    rest = b"".join(text.splitlines(keepends=True)[first:])
    gone = f"OUT_OF_RANGE stream=kept offsets=0..{first - 1}: these records are no longer kept\n"
    status, got, said = both_ways(server, "--stream", "kept", "--from", "offset:0")
    expect(got == rest, f"{len(got)} bytes instead of {len(rest)}")
    expect((status, said) == (1, gone), f"exit {status}: {said}")
    status, got, said = both_ways(server, "--stream", "kept", "--from", f"offset:{first - 5}", "--count", "1")
    expect((status, said) == (1, gone.replace("=0..", f"={first - 5}..")), f"exit {status}: {said}")
    status, got, said = both_ways(server, "--stream", "kept", "--from", "offset:0", "--until", "offset:10")
    expect((status, got, said) == (1, b"", gone), f"exit {status}: {got[:50]} {said}")
    status, got, said = both_ways(server, "--stream", "kept")
    expect((status, said, got) == (0, "", rest), f"--from earliest is no question for what is gone: exit {status}: {said}")
    status, got, said = both_ways(server, "--stream", "kept", "--until", "earliest")
    expect((status, said, got) == (0, "", b""), f"nothing is before the earliest: exit {status}, {len(got)} bytes, {said}")
    for source in (("--server", server.address), ("--data", server.data)):
        stat = json.loads(run("stat", *source, "--json").stdout)
        expect(stat["streams"][0]["first_readable"] == first, f"stat {source[0]}: {stat['streams'][0]} and {first} is the first")
        kept = stat["shards"][0]["watermarks"]["first"]
        expect(1 < kept < stat["shards"][0]["watermarks"]["durable"], f"stat {source[0]}: the first lsn kept is {kept}")
        table = run("stat", *source).stdout.decode()
        expect(f" {first} " in table, f"stat {source[0]} does not show {first}: {table}")
    server.kill()
    server = case.server()
    stat = json.loads(run("stat", "--server", server.address, "--json").stdout)
    expect(stat["streams"][0]["first_readable"] == first and stat["shards"][0]["watermarks"]["first"] == kept,
           f"after a restart: {stat['streams'][0]}, {stat['shards'][0]['watermarks']} instead of {first}, {kept}")
    return f"the first {first} of 500000 records expired"


def retries(case):
    """One try is a try; a server that does not answer is said not to, and one parser reads every TIME."""
    server = case.server()
    for verb in (("append", "--stream", "a"), ("read", "--stream", "a"), ("stat",)):
        run(*verb, "--server", server.address, "--retry", "0", stdin=b"one\n")
        run(*verb, "--server", server.address, "--retry", "30s", stdin=b"one\n")
        done = run(*verb, "--server", server.address, "--retry", "soon", stdin=b"one\n", check=False)
        expect(done.returncode == 2 and b'"soon" is not understood' in done.stderr, f"{verb}: exit {done.returncode}: {done.stderr}")
    server.process.send_signal(signal.SIGSTOP)
    try:
        for verb in (("append", "--stream", "a"), ("read", "--stream", "a"), ("stat",)):
            began = time.monotonic()
            done = run(*verb, "--server", server.address, "--retry", "1s", stdin=b"one\n", check=False)
            expect(done.returncode == 1 and b"timed_out: no answer" in done.stderr, f"{verb}: exit {done.returncode}: {done.stderr}")
            expect(time.monotonic() - began < 4, f"{verb} took {time.monotonic() - began:.1f} s")
    finally:
        server.process.send_signal(signal.SIGCONT)
    server.expect_alive()
    server.stop()


def ports(case):
    for verb in (("append", "--stream", "a"), ("read", "--stream", "a"), ("stat",)):
        for port in ("0", "65536", "82706", "-1", "", "x"):
            done = run(*verb, "--server", f"127.0.0.1:{port}", "--retry", "0", stdin=b"", check=False)
            expect(done.returncode == 1 and b"a port of 1 to 65535" in done.stderr, f"{verb} to {port!r}: exit {done.returncode}: {done.stderr}")


if __name__ == "__main__":
    sys.exit(main("reads", [
        ("expired", expired),
        ("retries", retries),
        ("ports", ports),
    ]))
