"""Filesystems of a case's own, unmounted when it ends."""

import os
import subprocess

from harness import Skip, expect


def system(*command):
    """A command of the system; a machine that refuses it cannot run the case."""
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        raise Skip("loop_mount", f"{' '.join(command)}: {done.stderr.decode().strip()}")


def unmount_later(case, mounted):
    case.undo.append(lambda: subprocess.run(["umount", "-l", mounted], capture_output=True))


def mount(case, *arguments):
    """`mount ARGUMENTS DIRECTORY` on a new directory of the case; the directory."""
    mounted = case.path("mounted")
    os.mkdir(mounted)
    system("mount", *arguments, mounted)
    unmount_later(case, mounted)
    return mounted


def mount_image(case, mebibytes, *maker):
    """A filesystem in a file of this size; `maker` and the file's name make it."""
    image = case.path("image")
    with open(image, "wb") as file:
        file.truncate(mebibytes << 20)
    system(*maker, image)
    return mount(case, "-o", "loop", image)


def expect_root():
    if os.geteuid() != 0:
        raise Skip("loop_mount", "not root")


def mount_ramfs(case, name):
    """A filesystem without direct I/O, which root gets on every machine."""
    if os.geteuid() != 0:
        raise Skip("root", "mounting ramfs takes root")
    mounted = case.path(name)
    os.mkdir(mounted)
    done = subprocess.run(["mount", "-t", "ramfs", "ramfs", mounted], capture_output=True)
    expect(done.returncode == 0, f"mount: {done.stderr.decode()}")
    unmount_later(case, mounted)
    return mounted
