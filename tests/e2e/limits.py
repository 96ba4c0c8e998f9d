#!/usr/bin/env python3
"""Small limits on threads and files: a start says what is missing and how to get it, a running server never keeps silent."""

import os
import re
import resource
import subprocess
import sys
import time

import harness
from harness import Skip, expect, lines, main, run
from kernels import CONFINE, confined
import wire

ALONE = 64321  # a user nobody else is: limits on processes count all of a user's
KERNELS = ("auto", "posix")


def little_threads(case, kernel, limit):
    return confined(case, "--kernel", kernel, under=["--user", str(ALONE), "--processes", str(limit)], name=f"{kernel}-{limit}", wait=False)


def no_threads(case):
    """From a limit where nothing starts to one where all does: each either serves, or ends with one sentence of cause and cure."""
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    said = []
    for kernel in KERNELS:
        served = refused = 0
        for limit in (1, 2, 3, 4, 5, 6, 12):
            server = little_threads(case, kernel, limit)
            try:
                server.wait_until_serving()
            except AssertionError:
                expect(server.process.poll() == 1, f"{kernel}, {limit} processes: exit {server.process.poll()}: {server.said}")
                errors = [line for line in server.said.splitlines() if " error " in line]
                expect(len(errors) == 1 and "ulimit -u" in errors[0], f"{kernel}, {limit} processes: no cause and cure: {server.said}")
                expect("terminate" not in server.said, f"{kernel}, {limit} processes: {server.said}")
                refused += 1
                continue
            server.expect_alive()
            server.stop()
            served += 1
        expect(refused >= 1 and served >= 1, f"{kernel}: {served} served, {refused} refused")
        said.append(f"{kernel}: {refused} limits refused, {served} served")
    return "\n".join(said)


def no_threads_for_a_client(case):
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    done = subprocess.run([sys.executable, CONFINE, "--user", str(ALONE), "--processes", "1", "--", harness.BINARY, "append", "--stream", "a",
                           "--server", "127.0.0.1:1", "--retry", "1s"], input=b"one\n", capture_output=True, timeout=60)
    expect(done.returncode == 1 and b"ulimit -u" in done.stderr and b"terminate" not in done.stderr, f"exit {done.returncode}: {done.stderr!r}")


def few_threads(case):
    """Fewer file threads than wanted: named in the start line, and enough to work."""
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    server = little_threads(case, "posix", 4)
    server.wait_until_serving()
    expect(re.search(r"file threads: [123] of 4", server.said), f"not named: {server.said}")
    server.expect_alive()
    server.stop()


def with_files(case, limit, kernel, inherited=0):
    """A server under a limit on open files, some of which it inherits open."""
    script = case.path(f"files-{limit}")
    with open(script, "w") as file:
        file.write("#!/bin/bash\n" + "".join(f"exec {number}</dev/null\n" for number in range(10, 10 + inherited)))
        file.write(f'ulimit -n {limit}\nexec {harness.BINARY} "$@"\n')
    os.chmod(script, 0o755)
    free, harness.BINARY = harness.BINARY, script
    try:
        return case.server("--kernel", kernel, name=f"{kernel}-{limit}", wait=False)
    finally:
        harness.BINARY = free


def expect_refusal_by_files(server, what):
    expect(server.wait_for_end() == 1, f"{what}: {server.said}")
    errors = [line for line in server.said.splitlines() if " error " in line]
    expect(len(errors) == 1 and "ulimit -n" in errors[0], f"{what}: no cause and cure: {server.said}")


def few_files(case):
    """A limit that cannot work is refused at the start; the least that is not refused works, and who has no place is told."""
    said = []
    for kernel in KERNELS:
        for limit in (5, 8, 12, 20, 40):
            server = with_files(case, limit, kernel)
            expect_refusal_by_files(server, f"{kernel}, {limit} files")
        least = int(re.search(r"and (\d+) are needed", server.said).group(1))
        server = with_files(case, least, kernel)
        server.wait_until_serving()
        for _ in range(3):
            server.expect_alive()
        expect_crowded(server, kernel)
        server.expect_alive()
        server.stop()
        said.append(f"{kernel}: refused below {least} files")
    return "\n".join(said)


def more_files_than_thought(case):
    """Descriptors run out below the number of connections that was allowed: accepting fails, and nobody waits in silence."""
    for kernel in KERNELS:
        server = with_files(case, 72, kernel, inherited=50)
        server.wait_until_serving()
        server.expect_alive()
        expect_crowded(server, f"{kernel}, inherited")
        server.expect_alive()
        server.stop()


def no_file_for_the_log(case):
    """Descriptors are gone when the log wants its next segment: appends get an error with a name, the log says why, and it goes
    on when there are some again."""
    for kernel in KERNELS:
        server = case.server("--kernel", kernel, name=f"{kernel}-log")
        client = subprocess.Popen([harness.BINARY, "append", "--server", server.address, "--stream", "long", "--quiet", "--retry", "4s"],
                                  stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        case.undo.append(client.kill)
        client.stdin.write(lines(1000))
        client.stdin.flush()
        end = time.monotonic() + 20
        while b"record 999" not in server.read("long", check=False).stdout:
            expect(time.monotonic() < end, "the first records do not come through")
        high = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, high[1]))
        try:
            for _ in range(60):
                client.stdin.write(lines(1000, width=1000))
            client.stdin.close()
        except BrokenPipeError:
            pass
        said = client.stderr.read()
        expect(client.wait(timeout=60) != 0 and b"file descriptors" in said, f"{kernel}: the client says {said!r}")
        server.read_said(0.2)
        expect("no segment can be opened" in server.said and "file descriptors" in server.said, f"{kernel}: no line in the log: {server.said[-600:]}")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, high)
        time.sleep(1.5)
        server.expect_alive("after")
        server.stop()
        verified = run("verify", "--data", server.data, check=False)
        expect(verified.returncode == 0, f"verify: {verified.stdout} {verified.stderr}")


def expect_crowded(server, what):
    """Connections until no more is let in: that one gets a typed error at once, and the log has a line of it."""
    time.sleep(2)  # what is prepared in the background has files open as well
    connections = []
    try:
        for _ in range(60):
            connection = harness.connect(server)
            connections.append(connection)
            connection.sendall(wire.hello(b"crowd"))
            began = time.monotonic()
            kind, _, _, words, body = wire.receive(connection)
            expect(time.monotonic() - began < 5, f"{what}: no answer for {time.monotonic() - began:.1f} s")
            if kind != wire.WELCOME:
                expect(kind == wire.REFUSED and b"file descriptors" in body, f"{what}: refused with {words} {body}")
                break
        else:
            raise AssertionError(f"{what}: 60 connections and none refused")
        appended = run("append", "--server", server.address, "--stream", "crowd", "--quiet", "--retry", "2s", stdin=b"one\n", check=False, timeout=60)
        expect(appended.returncode != 0 and b"file descriptors" in appended.stderr, f"{what}: the client: exit {appended.returncode}, {appended.stderr!r}")
        end = time.monotonic() + 15
        while "connections were refused" not in server.said and time.monotonic() < end:
            server.read_said(0.2)
        expect("connections were refused" in server.said and "ulimit -n" in server.said, f"{what}: no line in the log: {server.said[-600:]}")
    finally:
        for connection in connections:
            connection.close()
    time.sleep(0.5)


CASES = [(function.__name__, function) for function in (no_threads, no_threads_for_a_client, few_threads, few_files, more_files_than_thought, no_file_for_the_log)]

if __name__ == "__main__":
    sys.exit(main("limits", CASES))
