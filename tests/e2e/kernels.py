#!/usr/bin/env python3
"""Places that refuse io_uring, in whole or in part: the server starts, says what it uses and why, and keeps its records."""

import json
import os
import sys
import time

import harness
from harness import Skip, expect, lines, main, run

CONFINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "confine.py")
NOBODY = 65534


def confined(case, *flags, under, **named):
    """A server started through confine.py; its clients are free."""
    script = case.path("confined")
    with open(script, "w") as file:
        file.write(f'#!/bin/sh\nexec {sys.executable} {CONFINE} {" ".join(under)} -- {harness.BINARY} "$@"\n')
    os.chmod(script, 0o755)
    free, harness.BINARY = harness.BINARY, script
    try:
        return case.server(*flags, **named)
    finally:
        harness.BINARY = free


def start_line(server):
    found = [line for line in server.said.splitlines() if " serves " in line]
    expect(len(found) == 1, f"{len(found)} start lines: {server.said}")
    return found[0]


def expect_line(server, *words):
    line = start_line(server)
    for word in words:
        expect(word in line, f"the start line does not say {word!r}: {line}")
    return line


def stat_of(server):
    return json.loads(run("stat", "--server", server.address, "--json").stdout)


def expect_identity(server, stream, first=0):
    """What is appended is what is read, record by record, also across a kill."""
    sent = lines(20_000, first=first)
    server.append(stream, sent)
    expect(server.read(stream).stdout.endswith(sent), f"{stream}: what was read is not what was sent")
    return sent


def refused(case, *flags, words):
    server = confined(case, under=flags)
    line = expect_line(server, *words)
    sent = expect_identity(server, "refused")
    server.kill()
    again = confined(case, under=flags)
    expect(again.read("refused").stdout == sent, "after a kill the stream is not what was sent")
    again.stop()
    return line


def seccomp_eperm(case):
    return refused(case, "--refuse", "all", words=["posix uses epoll", "missing: io_uring: ", "seccomp"])


def seccomp_enosys(case):
    return refused(case, "--refuse", "all", "--errno", "ENOSYS", words=["posix uses epoll", "no io_uring", "seccomp"])


def seccomp_enter(case):
    return refused(case, "--refuse", "enter", words=["posix uses epoll", "seccomp"])


def seccomp_register(case):
    """Rings, but nothing registered: each feature is worked around by itself, and named."""
    return refused(case, "--refuse", "register",
                   words=["io_uring uses", "BUFFERS_SPARSE: ", "FILES_SPARSE: ", "PBUF_RING: ", "SEND_MSG_RING: "])


def uring_or_nothing(case):
    server = confined(case, "--kernel", "uring", under=["--refuse", "all"], wait=False)
    expect(server.wait_for_end() == 1, "it did not end with status 1")
    expect("--kernel uring" in server.said and "seccomp" in server.said, f"no cause: {server.said}")


def memlock_64_kib(case):
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    return refused(case, "--memlock", "65536", "--user", str(NOBODY), words=["io_uring uses", "REGISTER_BUFFERS of "])


def unprivileged_user(case):
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    return refused(case, "--user", str(NOBODY), words=["uses"])


def one_directory_two_kernels(case):
    """The files are the same: each kernel goes on where the other was killed."""
    sent = b""
    for number, kernel in enumerate(["posix", "uring", "posix", "auto"]):
        server = case.server("--kernel", kernel)
        expect_line(server, "posix uses" if kernel == "posix" else "io_uring uses")
        parts = stat_of(server)
        expect(("posix" if kernel == "posix" else "io_uring") in json.dumps(parts), "stat does not name the kernel")
        expect('"missing"' in json.dumps(parts), "stat does not name what is missing")
        sent += expect_identity(server, "both", first=number * 20_000)
        server.kill()
    server = case.server()
    expect(server.read("both").stdout == sent, "the stream is not what was sent on both kernels")
    server.stop()
    verified = run("verify", "--data", server.data, check=False)
    expect(verified.returncode == 0, f"verify: {verified.stdout} {verified.stderr}")


def idle(case):
    """Nothing to do = asleep: next to no wakeups and no time used, on both kernels."""
    said = []
    for kernel in ("uring", "posix"):
        server = case.server("--kernel", kernel, name=kernel)

        def used():
            switches = ticks = 0
            for thread in os.listdir(f"/proc/{server.process.pid}/task"):
                folder = f"/proc/{server.process.pid}/task/{thread}"
                with open(f"{folder}/status") as status:
                    switches += int(next(line for line in status if line.startswith("voluntary_ctxt")).split()[1])
                with open(f"{folder}/stat") as stat:
                    ticks += sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))
            return switches, ticks / os.sysconf("SC_CLK_TCK")

        for state in ("new", "used"):
            if state == "used":
                server.expect_alive()
            time.sleep(3)  # what a start or an append prepares in the background
            seconds = 5
            before = used()
            time.sleep(seconds)
            after = used()
            wakeups, share = (after[0] - before[0]) / seconds, (after[1] - before[1]) / seconds
            said.append(f"{kernel}, {state}: {wakeups:.1f} wakeups/s, {100 * share:.2f} % of a core")
            expect(wakeups < 20, f"{kernel}, {state}: {wakeups:.0f} wakeups a second on an idle server")
            expect(share < 0.01, f"{kernel}, {state}: {100 * share:.2f} % of a core on an idle server")
        server.stop()
    return "; ".join(said)


CASES = [(function.__name__, function) for function in (
    seccomp_eperm, seccomp_enosys, seccomp_enter, seccomp_register, uring_or_nothing, memlock_64_kib, unprivileged_user,
    one_directory_two_kernels, idle)]

if __name__ == "__main__":
    sys.exit(main("kernels", CASES))
