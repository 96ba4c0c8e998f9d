#!/usr/bin/env python3
"""Filesystems, each tried for real on a mount of its own: works directly, needs --buffered, or is refused with the reason."""

import os
import shutil
import sys

from harness import Skip, expect, lines, main, run
from mounts import expect_root, mount, mount_image

KERNELS = ("uring", "posix")


def mounted_as(case, kind, maker):
    expect_root()
    if kind in ("tmpfs", "ramfs"):
        return mount(case, "-t", kind, *(["-o", "size=400m"] if kind == "tmpfs" else []), kind)
    if kind == "overlay":
        for name in ("lower", "upper", "work"):
            os.mkdir(case.path(name))
        folders = f"lowerdir={case.path('lower')},upperdir={case.path('upper')},workdir={case.path('work')}"
        return mount(case, "-t", "overlay", "-o", folders, "overlay")
    if not shutil.which(maker[0]):
        raise Skip(f"mkfs_{kind}", f"no {maker[0]}")
    return mount_image(case, 400, *maker)


def serve(case, data, *flags):
    """None when the server refuses, with what it said."""
    server = case.server(*flags, name=data, wait=False)
    try:
        server.wait_until_serving()
    except AssertionError:
        expect(server.process.poll() == 1, f"no exit 1: {server.said}")
        return None, server.said
    return server, server.said


def keep(case, data, *flags):
    """Killed and read back. 'works', or the reason of the refusal."""
    server, said = serve(case, data, *flags)
    if server is None:
        return next(line for line in reversed(said.splitlines()) if line).split("] ")[-1]
    sent = lines(20_000)
    server.append("kept", sent)
    server.kill()
    again, said = serve(case, data, *flags)
    expect(again is not None, f"no second start: {said}")
    expect(again.read("kept").stdout == sent, "what was read is not what was sent")
    again.stop()
    verified = run("verify", "--data", data, *(flag for flag in flags if flag == "--buffered"), check=False)
    expect(verified.returncode == 0, f"verify: exit {verified.returncode}: {verified.stdout} {verified.stderr}")
    return "works"


def tried(kind, *maker):
    def case_of(case):
        mounted = mounted_as(case, kind, maker)
        said = []
        for kernel in KERNELS:
            direct = keep(case, os.path.join(mounted, kernel), "--kernel", kernel)
            if direct != "works":
                expect("--buffered" in direct, f"the refusal does not name the cure: {direct}")
            data = os.path.join(mounted, f"{kernel}-buffered")
            buffered = keep(case, data, "--kernel", kernel, "--buffered")
            expect(buffered == "works", f"--buffered: {buffered}")
            said.append(f"{kind}, {kernel}: direct I/O: {direct}; --buffered: {buffered}")
        return "\n".join(said)

    return kind, case_of


CASES = [
    tried("ext4", "mkfs.ext4", "-q"),
    tried("xfs", "mkfs.xfs", "-q"),
    tried("btrfs", "mkfs.btrfs", "-q"),
    tried("overlay"),
    tried("tmpfs"),
    tried("ramfs"),
]

if __name__ == "__main__":
    sys.exit(main("filesystems", CASES))
