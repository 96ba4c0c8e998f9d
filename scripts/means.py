"""What a test may lack on a machine, and how ./check finds out whether it is really lacking.

A test that cannot run says so with a line `needs NAME: what was seen`, and ./check believes it only when the probe of
that name agrees: a skip where the means exist counts as a failure.
"""

import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

IO_URING_SETUP = 425


def root():
    return os.geteuid() == 0


def io_uring():
    params = (ctypes.c_char * 120)()
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 4, params)
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True


def loop_mount():
    """Root, a loop device, ext4 in the kernel and the tools to make one; tried, not guessed."""
    if not root() or not shutil.which("mkfs.ext4") or not shutil.which("mount"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        image, mounted = os.path.join(folder, "image"), os.path.join(folder, "mounted")
        os.mkdir(mounted)
        with open(image, "wb") as file:
            file.truncate(16 << 20)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if subprocess.run(["mkfs.ext4", "-q", image], **quiet).returncode != 0:
            return False
        if subprocess.run(["mount", "-o", "loop", image, mounted], **quiet).returncode != 0:
            return False
        return subprocess.run(["umount", mounted], **quiet).returncode == 0


def mkfs_xfs():
    return bool(shutil.which("mkfs.xfs"))


def mkfs_btrfs():
    return bool(shutil.which("mkfs.btrfs"))


def fish():
    return bool(shutil.which("fish"))


def groff():
    return bool(shutil.which("groff"))


def zsh():
    return bool(shutil.which("zsh"))


def fresh_root():
    """Root, and debootstrap to make a Debian of its own."""
    return root() and bool(shutil.which("debootstrap"))


def direct_io():
    """O_DIRECT where tests put their data (TMPDIR, or the current folder)."""
    folder = os.environ.get("TMPDIR") or os.getcwd()
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            os.close(os.open(file.name, os.O_RDWR | os.O_DIRECT))
        return True
    except OSError:
        return False


def disk_30_gb():
    folder = os.environ.get("TMPDIR") or os.getcwd()
    return shutil.disk_usage(folder).free >= 30 * 10**9


def cores_2():
    return len(os.sched_getaffinity(0)) >= 2


def tracefs():
    return os.access("/sys/kernel/tracing/events/io_uring/io_uring_queue_async_work/enable", os.W_OK)


def files_24000():
    """Descriptors for ten thousand connections, both ends."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 24000


def io_uring_sysctl():
    """kernel.io_uring_disabled may be set; tried with the value it has."""
    path = "/proc/sys/kernel/io_uring_disabled"
    try:
        with open(path) as file:
            value = file.read()
        with open(path, "w") as file:
            file.write(value)
        return True
    except OSError:
        return False


def pressure():
    return os.access("/proc/pressure/io", os.R_OK)


PROBES = {probe.__name__: probe for probe in (root, io_uring, loop_mount, mkfs_xfs, mkfs_btrfs, fresh_root, direct_io, disk_30_gb, cores_2, tracefs,
                                              files_24000, pressure, fish, zsh, groff, io_uring_sysctl)}
_seen = {}


def missing(reason):
    """True when the reason names means that this machine really lacks; else a word about what is wrong with it."""
    match = re.search(r"needs (\w+)", reason)
    if not match or match.group(1) not in PROBES:
        return "no `needs MEANS` of scripts/means.py"
    name = match.group(1)
    if name not in _seen:
        _seen[name] = PROBES[name]()
    return f"{name} is here" if _seen[name] else True


if __name__ == "__main__":
    for name, probe in PROBES.items():
        print(f"{name}: {'yes' if probe() else 'no'}", file=sys.stdout)
