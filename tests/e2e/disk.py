#!/usr/bin/env python3
"""What disks and directories do: full, damaged, foreign, of another version, without direct I/O."""

import os
import re
import struct
import sys
import time

import wire
from harness import expect, lines, main, run
from mounts import expect_root, mount_image, mount_ramfs

NO_SPACE = "no_space"


def loop_mount(case, mebibytes):
    """An ext4 of its own that is really full when it is full."""
    expect_root()
    return mount_image(case, mebibytes, "mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal")


def disk_full(case):
    mounted = loop_mount(case, 64)
    ballast = os.path.join(mounted, "ballast")
    server = case.server(name=os.path.join(mounted, "data"))
    with open(ballast, "wb", buffering=0) as file:
        try:
            while file.write(b"b" * (1 << 20)) == 1 << 20:
                pass
        except OSError:
            pass  # full now
    stored = b""
    refused = None
    for number in range(200):
        piece = lines(5_000, first=number * 5_000, width=200)
        done = server.append("full", piece, "--retry", "1s", check=False)
        if done.returncode != 0:
            refused = done.stderr.decode()
            break
        stored += piece
    expect(refused is not None, "the disk never got full")
    expect(NO_SPACE in refused, f"no typed error: {refused}")
    expect("5000 records were read, and the bytes are theirs: " in refused, f"the summary counts what was not acknowledged: {refused}")
    expect("B free; another segment and 4 MiB" in refused, f"not said what lacks: {refused}")
    got = server.read("full").stdout
    expect(got.startswith(stored), "what was acknowledged cannot be read while the disk is full")
    os.unlink(ballast)
    end = time.monotonic() + 30
    resumed = False
    while not resumed and time.monotonic() < end:
        resumed = server.append("after", b"room again\n", "--retry", "1s", check=False).returncode == 0
    expect(resumed, "service did not resume when space returned")
    server.read_said()
    expect("B free; a segment takes 16MiB, and 4MiB are kept for seals and indexes" in server.said, f"the server did not say why: {server.said}")
    expect(server.read("full").stdout.startswith(stored), "records were lost")
    server.stop()
    expect(run("verify", "--data", server.data).returncode == 0, "verify is not content")
    return f"{len(stored) >> 20} MiB acknowledged before no_space, all read back; resumed by itself"


def start_on_a_full_disk(case):
    """A server that cannot start says so, and what to do: it does not wait."""
    mounted = loop_mount(case, 64)
    with open(os.path.join(mounted, "ballast"), "wb", buffering=0) as file:
        try:
            while file.write(b"b" * (1 << 20)) == 1 << 20:
                pass
        except OSError:
            pass  # full now
    server = case.server(name=os.path.join(mounted, "data"), wait=False)
    status = server.wait_for_end()
    expect(status == 1 and "the disk is full; free some space and start again" in server.said, f"exit {status}: {server.said}")
    expect("resumes" not in server.said and "cannot be read" not in server.said, server.said)
    os.unlink(os.path.join(mounted, "ballast"))
    server = case.server(name=os.path.join(mounted, "data"))
    server.expect_alive()
    server.stop()


def closed_segments(folder):
    found = sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names
                   if name.startswith("data0") and name[4:].isdigit())
    return found[:-1]


def flip_bit_in(path, line):
    """Inside a record's payload: a group's header or padding may break without a record being lost."""
    with open(path, "r+b") as file:
        at = file.read().index(line) + 100
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def damaged_front(case):
    """A stream's first batch is lost, and so is the index that knew of it: a reader from the beginning is told all the same."""
    server = case.server()
    text = lines(200_000, width=200)
    server.append("hurt", text)
    server.stop()
    flip_bit_in(closed_segments(server.data)[0], text.splitlines()[0])
    derived = [os.path.join(path, name) for path, _, names in os.walk(server.data) for name in names if name in ("index", "state")]
    expect(len(derived) >= 2, f"derivable files: {derived}")
    for path in derived:
        os.unlink(path)
    server = case.server()
    sent = text.splitlines(keepends=True)

    def expect_told(done, how):
        expect(done.returncode == 1, f"{how}: exit {done.returncode}")
        kept = done.stdout.splitlines(keepends=True)
        lost = len(sent) - len(kept)
        expect(0 < lost < 10_000 and kept == sent[lost:], f"{how}: {lost} records are missing")
        expect(f"DATA_LOSS stream=hurt offsets=0..{lost - 1}:".encode() in done.stderr, f"{how} said {done.stderr!r}")
        return lost

    lost = expect_told(server.read("hurt", check=False), "read --server")
    expect(expect_told(server.read("hurt", "--from", "offset:0", check=False), "read --from offset:0") == lost, "another loss")
    server.stop()
    expect(expect_told(run("read", "--data", server.data, "--stream", "hurt", check=False), "read --data") == lost, "another loss")
    return f"one flipped bit cost the first {lost} records; told by --server and by --data, with the index derived anew"


def neighbours_are_one_loss(case):
    """Batches that are lost side by side are one line, of a server and of its directory."""
    server = case.server()
    text = lines(200_000, width=200)
    server.append("hurt", text, "--batch-records", "10")
    server.stop()
    sent = text.splitlines(keepends=True)
    for at in (*range(1_000, 1_060, 5), 1_500):
        flip_bit_in(closed_segments(server.data)[0], sent[at].strip())
    server = case.server()
    for how, done in (("--server", server.read("hurt", check=False)), ("--data", run("read", "--data", server.data, "--stream", "hurt", check=False))):
        lost = re.findall(rb"^DATA_LOSS stream=hurt offsets=(\d+)\.\.(\d+): these records were durable and are lost$", done.stderr, re.M)
        expect(done.returncode == 1 and len(lost) == 2 == done.stderr.count(b"\n"), f"{how}: exit {done.returncode}, said {done.stderr.decode()}")
        (first, last), (third, fourth) = ((int(begin), int(end)) for begin, end in lost)
        expect(990 < first <= 1_000 and 1_055 <= last < 1_065 and third <= 1_500 <= fourth < third + 10, f"{how} said {done.stderr.decode()}")
        expect(done.stdout == b"".join(sent[:first] + sent[last + 1:third] + sent[fourth + 1:]), f"{how}: what was printed is not what is left")
    server.stop()
    return f"{last - first + 1} records in at least 5 batches are one line"


def missing_segment(case):
    """A segment in the middle is gone: what stands before and behind it is read, and the hole is a loss, not retention's."""
    server = case.server("--segment-bytes", "16MiB")
    text = lines(300_000, width=200)
    server.append("holed", text)
    server.stop()
    with open(os.path.join(server.data, "node.meta"), "r+b") as file:
        file.seek(12_300)
        byte = file.read(1)
        file.seek(12_300)
        file.write(bytes([byte[0] ^ 1]))
    verified = run("verify", "--data", server.data)
    expect(b"bytes 12288 to 16384: one of two slots does not verify" in verified.stderr, f"verify said {verified.stderr!r}")
    segments = closed_segments(server.data)
    os.unlink(segments[1])
    done = run("read", "--data", server.data, "--stream", "holed", check=False)
    expect(done.returncode == 1 and b"DATA_LOSS stream=holed" in done.stderr, f"exit {done.returncode}: {done.stderr[:300]!r}")
    expect(b"OUT_OF_RANGE" not in done.stderr, f"retention is blamed: {done.stderr[-300:]!r}")
    kept, sent = done.stdout.splitlines(keepends=True), text.splitlines(keepends=True)
    lost = len(sent) - len(kept)
    first = next(at for at, line in enumerate(kept) if line != sent[at])
    expect(kept == sent[:first] + sent[first + lost:], "what is left is not what was sent")
    verified = run("verify", "--data", server.data, check=False)
    expect(verified.returncode == 1 and b"DAMAGE missing" in verified.stdout, f"verify: {verified.stdout!r}")
    return f"one missing segment cost {lost} of {len(sent)} records, from offset {first} on"


def damaged_closed_segment(case):
    server = case.server()
    text = lines(200_000, width=200)
    server.append("hurt", text)
    server.append("well", b"untouched\n")
    server.stop()
    expect(run("verify", "--data", server.data).stdout.startswith(b"sound"), "verify is not content before the damage")
    segments = closed_segments(server.data)
    expect(segments, "no segment was closed")
    flip_bit_in(segments[0], text.splitlines()[30_000])
    verified = run("verify", "--data", server.data, check=False)
    expect(verified.returncode == 1 and b"data000000" in verified.stdout, f"verify: {verified.returncode}: {verified.stdout!r}")
    server = case.server()
    done = server.read("hurt", check=False)
    expect(done.returncode == 1, f"read: exit {done.returncode}")
    expect(b"DATA_LOSS" in done.stderr and b"hurt" in done.stderr, f"read said {done.stderr!r}")
    kept = done.stdout.splitlines(keepends=True)
    sent = text.splitlines(keepends=True)
    expect(len(sent) - 40_000 < len(kept) < len(sent), f"{len(sent) - len(kept)} records are missing")
    expect(set(kept) <= set(sent) and kept[0] == sent[0] and kept[-1] == sent[-1], "what is left is not what was sent")
    expect(server.read("well").stdout == b"untouched\n", "another stream suffers")
    server.expect_alive()
    server.stop()
    return f"one flipped bit cost {len(sent) - len(kept)} of {len(sent)} records"


def other_version(case):
    server = case.server()
    server.append("old", b"kept\n")
    server.stop()
    meta = os.path.join(server.data, "node.meta")
    with open(meta, "rb") as file:
        original = file.read()
    changed = bytearray(original)
    for at in (0, 4096):
        block = changed[at:at + 4096]
        if block[:4] != b"MRN1":
            continue
        struct.pack_into("<HH", block, 4, 2, 2)
        struct.pack_into("<Q", block, 8, 0)
        struct.pack_into("<Q", block, 8, wire.hash64(block))
        changed[at:at + 4096] = block
    with open(meta, "wb") as file:
        file.write(changed)
    second = case.server(wait=False)
    status = second.wait_for_end()
    expect(status == 1 and "newer" in second.said, f"exit {status}: {second.said}")
    with open(meta, "rb") as file:
        expect(file.read() == bytes(changed), "the refused directory was touched")
    with open(meta, "wb") as file:
        file.write(original)
    server = case.server()
    expect(server.read("old").stdout == b"kept\n", "the directory did not survive")
    server.stop()


def foreign_directory(case):
    os.mkdir(case.path())
    with open(case.path() + "/thesis.txt", "w", encoding="ascii") as file:
        file.write("somebody's\n")
    server = case.server(wait=False)
    expect(server.wait_for_end() == 1 and "thesis.txt" in server.said, server.said)
    expect(os.listdir(case.path()) == ["thesis.txt"], "the foreign directory was touched")


def no_direct_io(case):
    data = os.path.join(mount_ramfs(case, "ramfs"), "data")
    server = case.server(name=data, wait=False)
    expect(server.wait_for_end() == 1 and "--buffered" in server.said, server.said)
    server = case.server("--buffered", name=data)
    expect("BUFFERED" in server.said, "the start line does not name the mode")
    server.expect_alive()
    server.stop()


def shard_count_is_fixed(case):
    case.server("--shards", "2").stop()
    second = case.server("--shards", "3", wait=False)
    expect(second.wait_for_end() == 1 and "2" in second.said and "--shards" in second.said, second.said)
    third = case.server()
    expect("2 shards on 2 threads" in third.said or os.cpu_count() < 2, third.said)
    third.expect_alive("first")
    third.expect_alive("second")
    third.expect_alive("third")
    third.stop()


if __name__ == "__main__":
    sys.exit(main("disk", [
        ("disk_full", disk_full),
        ("start_on_a_full_disk", start_on_a_full_disk),
        ("damaged_closed_segment", damaged_closed_segment),
        ("damaged_front", damaged_front),
        ("neighbours_are_one_loss", neighbours_are_one_loss),
        ("missing_segment", missing_segment),
        ("other_version", other_version),
        ("foreign_directory", foreign_directory),
        ("no_direct_io", no_direct_io),
        ("shard_count_is_fixed", shard_count_is_fixed),
    ]))
