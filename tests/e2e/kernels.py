#!/usr/bin/env python3
"""Places that refuse io_uring, in whole or in part: the server starts, says what it uses and why, and keeps its records."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import harness
from harness import Skip, expect, lines, main, run
from mounts import mount_ramfs, unmount_later

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
    return refused(case, "--refuse", "all", words=["posix uses epoll", "missing: io_uring is denied by a security filter (EPERM, a seccomp filter"])


def seccomp_enosys(case):
    return refused(case, "--refuse", "all", "--errno", "ENOSYS", words=["posix uses epoll", "ENOSYS", "seccomp"])


def seccomp_enter(case):
    return refused(case, "--refuse", "enter", words=["posix uses epoll", "seccomp"])


def seccomp_enter_einval(case):
    """A filter may name any errno: a call that is refused for good is not waited for."""
    return refused(case, "--refuse", "enter", "--errno", "EINVAL", words=["posix uses epoll", "EINVAL", "seccomp"])


def seccomp_register(case):
    """Rings, but nothing registered: each feature is worked around by itself, and named with the cause that the errno has."""
    for name, cause, wrong in (("EPERM", "a seccomp filter denies io_uring_register", "ulimit -l"), ("ENOSYS", "a seccomp filter denies io_uring_register", "ulimit -l"),
                               ("EINVAL", "this kernel lacks it; run on Linux", "ulimit -l"), ("ENOMEM", "out of memory" if os.geteuid() == 0 else "ulimit -l", "seccomp")):
        server = confined(case, under=["--refuse", "register", "--errno", name], name=name)
        line = expect_line(server, "io_uring uses")
        missing = stat_of(server)["cores"][0]["missing"]
        for feature in ("BUFFERS_SPARSE", "FILES_SPARSE", "PBUF_RING", "ACCEPT_MULTISHOT RECV_MULTISHOT", "SEND_MSG_RING", "REGISTERED_RING", "IOWQ_MAX_WORKERS"):
            found = [each for each in missing if each.startswith(feature + ": ")]
            expect(len(found) == 1 and f"({name}: " in found[0] and cause in found[0], f"{feature} with {name}: {found}")
            expect(found[0] in line, f"stat says {found[0]!r}, the start line does not")
        expect(wrong not in line, f"{name} is not cured by {wrong}: {line}")
        expect_identity(server, "registered")
        server.stop()


def with_sysctl(case, value, *under, words):
    """The whole machine refuses for the moment a server takes to start."""
    path = "/proc/sys/kernel/io_uring_disabled"
    try:
        with open(path, "r+") as file:
            before = file.read().strip()
            file.write(before)
    except OSError as error:
        raise Skip("io_uring_sysctl", f"{error}") from None

    def set_to(number):
        with open(path, "w") as file:
            file.write(str(number))

    case.undo.append(lambda: set_to(before))
    set_to(value)
    try:
        server = confined(case, under=under) if under else case.server()
    finally:
        set_to(before)
    line = expect_line(server, "posix uses epoll", *words)
    expect_identity(server, "refused")
    server.stop()
    return line


def sysctl_off(case):
    return with_sysctl(case, 2, words=["kernel.io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0"])


def sysctl_for_administrators(case):
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    return with_sysctl(case, 1, "--user", str(NOBODY), words=["kernel.io_uring_disabled is 1", "kernel.io_uring_group"])


def sysctl_and_seccomp(case):
    """Two refuse: who is let through by one is told of the other only, who is let through by none is told of both."""
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    line = with_sysctl(case, 1, "--refuse", "all", words=["seccomp profile"])
    expect("run as root" not in line and "io_uring_disabled" not in line, f"root is told to be root: {line}")
    shutil.rmtree(case.path())
    line = with_sysctl(case, 1, "--refuse", "all", "--user", str(NOBODY), words=["run as root", "kernel.io_uring_group", "seccomp profile"])
    shutil.rmtree(case.path())
    with_sysctl(case, 2, "--refuse", "all", words=["kernel.io_uring_disabled=0", "seccomp profile"])
    return line


def uring_or_nothing(case):
    server = confined(case, "--kernel", "uring", under=["--refuse", "all"], wait=False)
    expect(server.wait_for_end() == 1, "it did not end with status 1")
    expect("--kernel uring" in server.said and "seccomp" in server.said, f"no cause: {server.said}")


def memlock_64_kib(case):
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    return refused(case, "--memlock", "65536", "--user", str(NOBODY), words=["io_uring uses", "queues of 1024 entries: ", "REGISTER_BUFFERS of ", "(ENOMEM: the limit on locked memory, 64 KiB, is used up; raise it with `ulimit -l`"])


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


class Pressure:
    """Seconds in which the process waited for I/O, as /proc/pressure/io counts them: of a control group of its own where one
    can be made, else of the whole machine, which only adds to it."""

    def __init__(self, case, process):
        self.path = "/proc/pressure/io"
        mounted = case.path(f"groups-{process.pid}")
        os.makedirs(mounted, exist_ok=True)
        if subprocess.run(["mount", "-t", "cgroup2", "none", mounted], capture_output=True).returncode == 0:
            group = os.path.join(mounted, f"millrace-idle-{process.pid}")
            unmount_later(case, mounted)
            case.undo.append(lambda: self.leave(process, group))
            os.mkdir(group)
            with open(os.path.join(group, "cgroup.procs"), "w") as file:
                file.write(str(process.pid))
            self.path = os.path.join(group, "io.pressure")
        elif not os.path.exists(self.path):
            raise Skip("pressure", "no /proc/pressure/io")

    @staticmethod
    def leave(process, group):
        process.kill()
        process.wait()
        os.rmdir(group)

    def seconds(self):
        with open(self.path) as file:
            return int(re.search(r"some .*total=(\d+)", file.read()).group(1)) / 1e6


def wakeups_of(pid):
    """How often each thread went to sleep so far, by number and start: a number may be used again."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        folder = f"/proc/{pid}/task/{thread}"
        try:
            with open(f"{folder}/stat") as stat, open(f"{folder}/status") as status:
                start = stat.read().rsplit(")", 1)[1].split()[19]
                found[thread, start] = int(next(line for line in status if line.startswith("voluntary_ctxt")).split()[1])
        except (FileNotFoundError, ProcessLookupError, StopIteration):  # it has just ended
            pass
    return found


def cpu_of(pid):
    """Seconds the process used so far, threads that have ended included."""
    return time.clock_gettime(~pid << 3 | 2)


def window(pid, waited, seconds):
    """Wakeups/s, share of a core and share of the time waiting for I/O in the next `seconds`; None when a thread came or went,
    whose wakeups nobody knows. `waited` gives the seconds waited so far."""
    began, before, cpu, waiting = time.monotonic(), wakeups_of(pid), cpu_of(pid), waited()
    time.sleep(seconds)
    took, after, cpu, waiting = time.monotonic() - began, wakeups_of(pid), cpu_of(pid) - cpu, waited() - waiting
    if before.keys() != after.keys():
        return None
    more = [after[thread] - before[thread] for thread in before]
    expect(before and min(more) >= 0 and cpu >= 0 and waiting >= 0, f"a counter fell: {more}, {cpu} s, {waiting} s")
    return sum(more) / took, cpu / took, waiting / took


def idle_on(case, kernel):
    """New, and after its first record. A window in which something in the background still ran is measured again."""
    server = case.server("--kernel", kernel, name=kernel)
    pressure = Pressure(case, server.process)
    said = []
    for state in ("new", "used"):
        if state == "used":
            server.expect_alive()
        for attempt in range(4):
            time.sleep(2)  # what a start or an append prepares in the background
            seen = window(server.process.pid, pressure.seconds, 4)
            asleep = seen is not None and seen[0] < 20 and seen[1] < 0.002 and seen[2] < 0.01
            if asleep:
                break
        expect(seen is not None, f"{kernel}, {state}: threads come and go in an idle server")
        text = f"{kernel}, {state}: {seen[0]:.1f} wakeups/s, {100 * seen[1]:.3f} % of a core, {100 * seen[2]:.2f} % waiting for I/O"
        expect(asleep, f"not idle: {text} ({pressure.path})")
        said.append(text)
    server.stop()
    return said


def idle(case):
    """Nothing to do = asleep: next to no wakeups, no time used, not counted as waiting for I/O; on both kernels."""
    return "\n".join(idle_on(case, "uring") + idle_on(case, "posix"))


BUSY = """
import threading, time
def work():
    end = time.monotonic() + 1
    while time.monotonic() < end:
        time.sleep(0.001)
        sum(range(20000))
thread = threading.Thread(target=work)
thread.start()
time.sleep(60)
"""


def idle_sees_threads_that_end(case):
    """The measurement itself: what a thread did before it ended inside the window does not vanish."""
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    case.undo.append(busy.kill)
    while len(os.listdir(f"/proc/{busy.pid}/task")) < 2:
        time.sleep(0.01)
    cpu = cpu_of(busy.pid)
    seen = window(busy.pid, time.monotonic, 3)
    expect(cpu_of(busy.pid) - cpu > 0.02, "the time of a thread that ended is not counted")
    expect(seen is None, f"a thread ended inside the window and it counted all the same: {seen}")


QUICKSTART = os.path.join(harness.ROOT, "quickstart")


def proves(command, case, *words):
    """A whole ./quickstart, in a place of its own: it says what it uses, and still kills, reads back and compares."""
    source = case.path("few.log")
    with open(source, "wb") as file:
        file.write(lines(20_000))
    done = subprocess.run([*command, QUICKSTART, "--binary", harness.BINARY, "--data", case.path("data"), source],
                          capture_output=True, timeout=300)
    said = done.stdout.decode() + done.stderr.decode()
    for word in (*words, "killed process", "equal", "It holds"):
        expect(word in said, f"quickstart does not say {word!r}: {said[-1500:]}")
    expect(done.returncode == 0, f"quickstart: exit {done.returncode}: {said[-600:]}")
    return next(line for line in said.splitlines() if words[0] in line)


def quickstart_without_io_uring(case):
    return proves([sys.executable, CONFINE, "--refuse", "all", "--"], case, "this machine refuses io_uring")


def quickstart_without_direct_io(case):
    mount_ramfs(case, "data")
    return proves([], case, "this filesystem has no direct I/O")


CASES = [(function.__name__, function) for function in (
    seccomp_eperm, seccomp_enosys, seccomp_enter, seccomp_enter_einval, seccomp_register, sysctl_off, sysctl_for_administrators,
    sysctl_and_seccomp, uring_or_nothing, memlock_64_kib, unprivileged_user,
    one_directory_two_kernels,
    quickstart_without_io_uring, quickstart_without_direct_io, idle_sees_threads_that_end, idle)]

if __name__ == "__main__":
    sys.exit(main("kernels", CASES))
