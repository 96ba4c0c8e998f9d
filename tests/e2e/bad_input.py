#!/usr/bin/env python3
"""Hostile, broken and numerous clients: each gets one clear error, and others keep their service."""

import os
import resource
import sys
import time

import wire
from harness import Skip, connect, expect, lines, main, run

BAD_FRAME, TOO_LARGE, TIMED_OUT, BAD_BODY = 113, 101, 5, 114


def expect_refusal(sock, error):
    kind, _, flags, words, body = wire.receive(sock)
    expect(kind == wire.REFUSED and words[0] == error and flags == 1, f"frame {kind}, error {words[0]}, not {error}")
    expect(len(body) > 10, "no sentence for a person")
    expect(wire.is_closed(sock), "the connection goes on")


def garbage_bytes(case):
    server = case.server()
    for garbage in (b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: somebody/1.0\r\nAccept: */*\r\n\r\n", os.urandom(70_000),
                    b"\0" * 4096):
        with connect(server) as sock:
            try:
                sock.sendall(garbage)
            except (BrokenPipeError, ConnectionResetError):
                continue
            if len(garbage) < 4096:
                expect_refusal(sock, BAD_FRAME)
    # Another protocol's first words are enough, however few.
    for greeting in (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", b"G", b"MRX"):
        with connect(server) as sock:
            sock.sendall(greeting)
            began = time.monotonic()
            expect_refusal(sock, BAD_FRAME)
            expect(time.monotonic() - began < 3, f"{greeting} was refused after {time.monotonic() - began:.1f} s")
    server.expect_alive()
    server.stop()


def four_gib_claim(case):
    server = case.server()
    before = server.memory()
    for greeted in (False, True):
        with connect(server) as sock:
            if greeted:
                sock.sendall(wire.hello())
                expect(wire.receive(sock)[0] == wire.WELCOME, "no welcome")
            sock.sendall(wire.header(4 if greeted else wire.HELLO, 2, 0xFFFFFFFF))
            expect_refusal(sock, TOO_LARGE)
    grown = server.memory() - before
    expect(grown < 16 << 20, f"memory grew by {grown >> 20} MiB")
    server.expect_alive()
    server.stop()


def half_a_hello(case):
    server = case.server()
    with connect(server) as sock:
        sock.sendall(wire.hello()[:40])
        began = time.monotonic()
        expect_refusal(sock, TIMED_OUT)
        took = time.monotonic() - began
    expect(8 < took < 16, f"the refusal took {took:.0f} s")
    server.stop()


def stream_names(case):
    server = case.server()
    for name in ("../../etc/passwd", "a/../b", "", "/", "new\nline", "x" * 256):
        done = run("append", "--server", server.address, "--stream", name, "--retry", "2s", stdin=b"x\n", check=False)
        expect(done.returncode != 0, f"{name!r} was taken")
        expect(0 < len(done.stderr.splitlines()) <= 3, f"{name!r}: {done.stderr!r}")
    found = [os.path.join(folder, name) for folder, _, names in os.walk(case.folder) for name in names if "passwd" in name]
    expect(not found, f"a name became a path: {found}")
    server.expect_alive()
    server.stop()


def large_batch(sock, stream, records):
    """The first stored batch of at least so many records; how lines fall into batches is a matter of time."""
    sock.sendall(wire.read_earliest(7, stream, 1 << 20))
    while True:
        kind, _, _, _, body = wire.receive(sock)
        expect(kind != wire.READ_END, f"no batch of {records} records")
        while kind == wire.BATCHES and body:
            length = int.from_bytes(body[76:80], "little")
            if int.from_bytes(body[72:76], "little") >= records:
                return body[:192 + length]
            body = body[192 + length + -(192 + length) % 16:]


def backwards_body(case):
    """Ends that fall, in a batch whose hashes all fit: refused alone, and nothing of it is stored."""
    server = case.server()
    server.append("ends", lines(2000, width=50))
    before = server.read("ends").stdout
    with connect(server) as sock:
        sock.sendall(wire.hello())
        expect(wire.receive(sock)[0] == wire.WELCOME, "no welcome")
        stored = large_batch(sock, b"ends", 3)
        body = bytearray(stored[192:])
        sound = wire.producers_batch(stored, body)
        first = int.from_bytes(stored[56:64], "little")
        lengths = [len(record) for record in before.split(b"\n")[first:first + 3]]
        at = body.find(b"".join(sum(lengths[:i + 1]).to_bytes(4, "little") for i in range(3)))
        expect(at > 0, "the ends are not where they were looked for")
        body[at:at + 8] = body[at + 4:at + 8] + body[at:at + 4]
        answers = {}
        sock.sendall(wire.frame(wire.APPEND, 20, sound) + wire.frame(wire.APPEND, 21, wire.producers_batch(stored, body)) +
                     wire.frame(wire.APPEND, 22, sound))
        while len(answers) < 3:
            kind, _, _, _, entries = wire.receive(sock)
            if kind == wire.ACKS:
                for begin in range(0, len(entries), 48):
                    answers[int.from_bytes(entries[begin:begin + 8], "little")] = int.from_bytes(entries[begin + 44:begin + 46], "little")
        expect(answers == {20: 0, 21: BAD_BODY, 22: 0}, f"answers: {answers}")
    records = int.from_bytes(stored[72:76], "little")
    after = server.read("ends").stdout
    expect(after.startswith(before) and after.count(b"\n") == 2000 + 2 * records, "the two sound batches, and nothing else, are not there")
    server.expect_alive()
    server.stop()


def slow_reader(case):
    server = case.server()
    server.append("big", lines(150_000, width=400))
    before = server.memory()
    slow = []
    for _ in range(20):
        sock = connect(server)
        slow.append(sock)
        sock.sendall(wire.hello())
        for request in range(2, 40):
            sock.sendall(wire.read_earliest(request, b"big", 16 << 20))
    time.sleep(2)
    grown = server.memory() - before
    server.expect_alive()
    began = time.monotonic()
    whole = server.read("big").stdout
    took = time.monotonic() - began
    expect(whole.count(b"\n") == 150_000, "the other reader did not get everything")
    for sock in slow:
        sock.close()
    expect(grown < 160 << 20, f"memory grew by {grown >> 20} MiB for 760 reads nobody takes")
    server.stop()
    return f"760 reads that nobody takes: {grown >> 20} MiB; 60 MB beside them in {took:.1f} s"


def ten_thousand_idle(case):
    count = 10_000
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit < count + 1000:
        raise Skip("files_24000", f"descriptors are limited to {limit}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    server = case.server()
    before = server.memory()
    began = time.monotonic()
    idle = []
    for _ in range(count):
        sock = connect(server)
        sock.sendall(wire.hello())
        idle.append(sock)
    for sock in idle:
        expect(wire.receive(sock)[0] == wire.WELCOME, "no welcome")
    took = time.monotonic() - began
    grown = server.memory() - before
    server.expect_alive()
    idle[7000].sendall(wire.frame(wire.PING, 9, words=(5, 0, 0, 0)))
    kind, request, _, words, _ = wire.receive(idle[7000])
    expect((kind, request, words[0]) == (wire.PONG, 9, 5), "an idle connection does not answer")
    stop = server.stop()
    for sock in idle:
        sock.close()
    expect(grown < count * 8 * 1024, f"{grown / count:.0f} bytes a connection")
    return (f"{count} connections in {took:.1f} s: {grown / (1 << 20):.1f} MiB, {grown / count:.0f} bytes each (socket buffers are the "
            f"kernel's); SIGTERM with all of them open took {stop:.1f} s")


def command_lines(case):
    data = case.path()
    for flags, said in (
            (["--listen", "0.0.0.0:0"], "--insecure"),
            (["--segment-bytes", "1MiB"], "segment-bytes"),
            (["--day-offset", "noon"], "day-offset"),
            (["--cores", "0,0"], "cores"),
            (["--config", case.path("no-such.toml")], "no-such.toml"),
            (["--frobnicate"], "frobnicate"),
    ):
        done = run("serve", "--data", data, *flags, check=False, timeout=20)
        expect(done.returncode == 2 and said in done.stderr.decode(), f"{flags}: exit {done.returncode}: {done.stderr!r}")
    expect(not os.path.exists(data), "a refused command line made the directory")
    expect(run("version").stdout.startswith(b"millrace "), "no version")
    listed = run("help").stdout.decode()
    verbs = [line.split()[0] for line in listed.split("Subcommands:")[1].splitlines() if line.startswith("  ")]
    expect({"serve", "append", "read", "stat", "verify", "version"} <= set(verbs), f"help names {verbs}")
    for verb in verbs:
        text = run(verb, "--help").stdout
        expect(b"xample" in text, f"{verb} --help has no example")
    done = run("nonsense", check=False)
    expect(done.returncode == 2 and done.stderr and not done.stdout, "an unknown verb is not refused on stderr")


def config_files(case):
    """A settings file with something wrong in it is refused by its line, before anything is made."""
    data = case.path()
    for text, said in (
            ('data = "DATA"\nlisten-on = "127.0.0.1:0"\n', ("listen-on", "line 2")),
            ('data = "DATA"\nsegment-bytes = "a lot"\n', ("segment-bytes", "a lot")),
            ('data = "DATA"\nmemory = [1, 2]\n', ("memory", "line 2")),
            ('data = "DATA"\nlisten = "0.0.0.0:0"\n', ("--insecure",)),
            ('data = "DATA"\n[server]\nshards = 2\n', ("line 2",)),
            ('data = "DATA\n', ("line 1",)),
    ):
        path = case.path("wrong.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("DATA", data))
        done = run("serve", "--config", path, check=False, timeout=20)
        expect(done.returncode == 2, f"{text!r}: exit {done.returncode}: {done.stderr!r}")
        expect(all(word in done.stderr.decode() for word in said), f"{text!r}: {done.stderr!r} does not name {said}")
        expect(len(done.stderr.splitlines()) == 1, f"{text!r}: more than one line: {done.stderr!r}")
    expect(not os.path.exists(data), "a refused file made the directory")


if __name__ == "__main__":
    sys.exit(main("bad_input", [
        ("garbage_bytes", garbage_bytes),
        ("four_gib_claim", four_gib_claim),
        ("half_a_hello", half_a_hello),
        ("stream_names", stream_names),
        ("backwards_body", backwards_body),
        ("slow_reader", slow_reader),
        ("ten_thousand_idle", ten_thousand_idle),
        ("command_lines", command_lines),
        ("config_files", config_files),
    ]))
