"""What the kernel did for a server: io_uring's hand-overs to worker threads, by operation, from its tracepoint."""

import contextlib
import os
import pathlib
import re
import subprocess
import tempfile

import rig

EVENT = "events/io_uring/io_uring_queue_async_work"
# Commits go out from registered buffers; WRITE is the index, the state file and zeros ahead of the log, in the background.
COMMIT_WRITES = ("WRITE_FIXED",)


@contextlib.contextmanager
def tracing_folder():
    """Where tracefs is, mounted for the time being when it is not."""
    for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if os.access(f"{path}/{EVENT}/enable", os.W_OK):
            yield pathlib.Path(path)
            return
    with tempfile.TemporaryDirectory(prefix="tracing-") as folder:
        done = subprocess.run(["mount", "-t", "tracefs", "nodev", folder], capture_output=True, text=True)
        if done.returncode != 0:
            raise rig.Missing(f"needs tracefs: {done.stderr.strip()}")
        try:
            if not os.access(f"{folder}/{EVENT}/enable", os.W_OK):
                raise rig.Missing("needs the tracepoint io_uring_queue_async_work")
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def threads_of(process):
    return {int(task) for task in os.listdir(f"/proc/{process}/task")}


def count(trace, threads):
    """{operation: how often} of the lines that these threads made."""
    counts = {}
    for line in trace.splitlines():
        found = re.search(r"-(\d+)\s.* opcode (\w+),", line)
        if found and int(found.group(1)) in threads:
            counts[found.group(2)] = counts.get(found.group(2), 0) + 1
    return counts


class Punts:
    """Counts of one process' operations that went to worker threads while it is entered: {"FSYNC": 3, …} in `counts`."""

    def __init__(self, process):
        self.process = process
        self.counts = {}

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        tracing = self.stack.enter_context(tracing_folder())
        self.instance = tracing / "instances" / f"millrace-{self.process}"
        self.instance.mkdir()
        self.stack.callback(self.instance.rmdir)
        (self.instance / "buffer_size_kb").write_text("4096")
        (self.instance / EVENT / "enable").write_text("1")
        self.threads = threads_of(self.process)
        return self

    def __exit__(self, *_):
        with self.stack:
            (self.instance / EVENT / "enable").write_text("0")
            self.counts = count((self.instance / "trace").read_text(errors="replace"), self.threads)

    def commit_writes(self):
        return sum(self.counts.get(name, 0) for name in COMMIT_WRITES)


def extent_borders(paths):
    """Borders between extents within files, or None when filefrag is not there. A direct write across one is not an overwrite of one
    extent, and ext4 does not take it without waiting."""
    try:
        said = subprocess.run(["filefrag", *map(str, paths)], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return sum(int(found) - 1 for found in re.findall(r": (\d+) extents? found", said))
