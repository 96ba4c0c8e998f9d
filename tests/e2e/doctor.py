#!/usr/bin/env python3
"""`millrace doctor` on what this machine has and on filesystems made for it: what it finds is so."""

import json
import os
import subprocess
import sys
import time

import harness
from harness import Skip, expect, main, run
from kernels import CONFINE
from mounts import expect_root, mount, mount_image, mount_ramfs, system


def rows_of(folder):
    """Rows by their check, and the exit status."""
    done = run("doctor", "--data", folder, "--json", check=False)
    return {row["check"]: row for row in json.loads(done.stdout)["rows"]}, done.returncode


def every_row(case):
    """Under 15 s, a row for everything, nothing left behind; a refusal is named with its cure; broken means exit 1."""
    os.mkdir(case.path())
    began = time.monotonic()
    done = run("doctor", "--data", case.path(), "--json", check=False)
    took = time.monotonic() - began
    expect(took < 15, f"doctor took {took:.1f} s")
    rows = {row["check"]: row for row in json.loads(done.stdout)["rows"]}
    wanted = {"io_uring", "locked memory", "cores", "open files", "clock", "loopback", "filesystem", "free space", "direct I/O",
              "prepared segments", "flushes", "disk throughput"}
    expect(wanted <= set(rows), f"no row for {wanted - set(rows)}")
    expect(all(row["finding"] == "ok" or row["advice"] for row in rows.values()), f"a finding without a cure: {rows}")
    expect((done.returncode == 1) == any(row["finding"] == "broken" for row in rows.values()), f"exit {done.returncode}")
    expect(len(done.stderr.splitlines()) > 4, "no progress")
    expect(os.listdir(case.path()) == [], f"left behind: {os.listdir(case.path())}")
    confined_rows = subprocess.run([sys.executable, CONFINE, "--refuse", "all", "--", harness.BINARY, "doctor", "--data", case.path(),
                                    "--json"], capture_output=True, timeout=60)
    refused_row = json.loads(confined_rows.stdout)["rows"][0]
    expect(refused_row["finding"] == "costs you" and "seccomp" in refused_row["advice"], f"no cure: {refused_row}")
    expect(run("doctor", "--data", case.path("absent"), check=False).returncode == 2, "a missing directory is not exit 2")
    if os.geteuid() == 0:
        broken = run("doctor", "--data", mount_ramfs(case, "memory"), check=False)
        expect(broken.returncode == 1 and b"broken" in broken.stdout, f"records in memory: exit {broken.returncode}")
    return f"{len(rows)} rows in {took:.1f} s"


def expect_no_space(folder):
    """Nothing that was not measured is ok, and nothing is called by another name than the lack of space."""
    rows, status = rows_of(folder)
    expect(status == 1, f"exit {status} without space")
    for check in ("free space", "prepared segments", "flushes", "disk throughput"):
        row = rows.get(check)
        expect(row is not None, f"no row {check}: {sorted(rows)}")
        expect(row["finding"] == "broken" and "no space" in row["found"] + row["advice"], f"without space: {row}")
    expect("preallocation" not in rows, f"fallocate blamed: {rows.get('preallocation')}")
    expect(not os.listdir(folder) or os.listdir(folder) == ["full"], f"left behind: {os.listdir(folder)}")
    return rows


def full_tmpfs(case):
    expect_root()
    expect_no_space(mount(case, "-t", "tmpfs", "-o", "size=1m", "tmpfs"))


def full_ext4(case):
    """To the last block, root's reserve included."""
    expect_root()
    mounted = mount_image(case, 32, "mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal")
    os.rmdir(os.path.join(mounted, "lost+found"))
    with open(os.path.join(mounted, "full"), "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    rows = expect_no_space(mounted)
    expect(rows["direct I/O"]["finding"] == "ok", f"direct I/O blamed: {rows['direct I/O']}")


def no_inodes(case):
    expect_root()
    mounted = mount(case, "-t", "tmpfs", "-o", "size=400m,nr_inodes=3", "tmpfs")
    for name in ("one", "two"):
        open(os.path.join(mounted, name), "w").close()
    rows, status = rows_of(mounted)
    expect(status == 1, f"exit {status} without inodes")
    expect("inodes" in rows["free space"]["advice"], f"{rows['free space']}")
    expect("inodes" in rows["direct I/O"]["advice"], f"{rows['direct I/O']}")


def a_little_space(case):
    """Less than a full trial: measured all the same, and half of it stays free for others."""
    expect_root()
    rows, _ = rows_of(mount(case, "-t", "tmpfs", "-o", "size=40m", "tmpfs"))
    expect(rows["disk throughput"]["found"][0] != "0" and "not measured" not in rows["disk throughput"]["found"], f"{rows['disk throughput']}")
    expect(rows["flushes"]["finding"] == "broken" and "memory" in rows["flushes"]["advice"], f"memory taken for a disk: {rows['flushes']}")


def disk_that_calls_itself_rotating(case):
    """A virtual disk says rotational as often as not: no reason to call its cache a liar."""
    os.mkdir(case.path())
    rows, _ = rows_of(case.path())
    row = rows["flushes"]
    expect("spinning" not in row["advice"] or "ATA" in device_vendor(case.path()), f"a disk without a motor is called a spinning one: {row}")
    return f"{row['finding']}: {row['found']}"


def image_in_memory(case):
    """ext4 in a file on tmpfs: tens of thousands of durable writes a second, and none of them reaches a disk. Two filesystems of
    which the upper one looks like any other."""
    expect_root()
    memory = mount(case, "-t", "tmpfs", "-o", "size=400m", "tmpfs")
    said = []
    for number, maker in enumerate((["mkfs.ext4", "-q"], ["mkfs.btrfs", "-q"])):
        if subprocess.run(["which", maker[0]], capture_output=True).returncode != 0:
            continue
        mounted = case.path(f"upper{number}")
        image = os.path.join(memory, "image")
        with open(image, "wb") as file:
            file.truncate(300 << 20)
        system(*maker, image)
        os.mkdir(mounted)
        system("mount", "-o", "loop", image, mounted)
        try:
            rows, status = rows_of(mounted)
        finally:
            system("umount", mounted)
        row = rows["flushes"]
        expect(status == 1 and row["finding"] == "broken" and f"the image {image} on tmpfs" in row["advice"], f"memory taken for a disk: {row}")
        said.append(f"{maker[0]}: {row['found']}")
    return "\n".join(said)


def this_disk_does_not_lie(case):
    """No false alarm: what this machine's disk does takes the time of a disk, unless it is memory."""
    os.mkdir(case.path())
    rows, _ = rows_of(case.path())
    row = rows["flushes"]
    kind = subprocess.run(["stat", "-f", "-c", "%T", case.path()], capture_output=True).stdout.decode().strip()
    expect(kind == "tmpfs" or row["finding"] != "broken", f"{kind}: {row}")
    return row["found"]


def one_thread_only(case):
    """Under a limit of one thread nothing is the fault of the interface: the limit is named."""
    if os.geteuid() != 0:
        raise Skip("root", "becomes another user")
    os.chmod(case.folder, 0o777)
    os.mkdir(case.path(), 0o777)
    os.chmod(case.path(), 0o777)
    done = subprocess.run([sys.executable, CONFINE, "--user", "64322", "--processes", "1", "--", harness.BINARY, "doctor", "--data", case.path(),
                           "--json"], capture_output=True, timeout=60)
    rows = {row["check"]: row for row in json.loads(done.stdout)["rows"]}
    for check in ("loopback", "io_uring"):
        expect(rows[check]["finding"] == "broken" and "ulimit -u" in rows[check]["advice"], f"no cause: {rows[check]}")
    expect(done.returncode == 1, f"exit {done.returncode}")
    return f"{rows['loopback']['found']} -> {rows['loopback']['advice']}"


def device_vendor(folder):
    number = os.stat(folder).st_dev
    for below in ("device/vendor", "../device/vendor"):
        try:
            with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/{below}") as file:
                return file.read()
        except OSError:
            pass
    return ""


CASES = [(function.__name__, function) for function in (
    every_row, full_tmpfs, full_ext4, no_inodes, a_little_space, disk_that_calls_itself_rotating, image_in_memory,
    this_disk_does_not_lie, one_thread_only)]

if __name__ == "__main__":
    sys.exit(main("doctor", CASES))
