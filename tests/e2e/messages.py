#!/usr/bin/env python3
"""What the command line says of small mistakes: each names what is wrong, where, and what would be right."""

import os
import re
import subprocess
import sys

import harness
from harness import expect, lines, main, run


def says(status, pattern, *arguments, stdin=b""):
    """A verb that ends with this status and says this, once, on stderr."""
    done = run(*arguments, stdin=stdin, check=False)
    said = done.stderr.decode(errors="replace")
    expect(done.returncode == status and re.search(pattern, said), f"{' '.join(arguments)}: exit {done.returncode}: {said}")
    return done


def words(case):
    expect(run("--version").stdout == run("version").stdout and run("--version").stdout.startswith(b"millrace "), "--version")
    says(2, '"bogus"', "bogus")
    says(2, '"bogus"', "bogus", "--help")
    server = case.server()
    expect("waited" not in server.said, f"nobody had it: {server.said}")
    address = ("--server", server.address)
    server.append("a", lines(3))
    for count in ("0", "-1", "many", "1x"):
        says(2, f'--count: "{count}" is not a number from 1 on', "read", *address, "--stream", "a", f"--count={count}")
    expect(server.read("a", "--count", "2").stdout == lines(2), "--count 2")
    for name in ("a//b", "/a", "a/", "../a", "x" * 256):
        for verb in ("append", "read"):
            says(1, r"a stream name is 1 to 255 bytes of UTF-8.* empty, \. or \.\.", verb, *address, "--stream", name)
        says(1, "a stream name is 1 to 255 bytes", "read", "--data", server.data, "--stream", name)
    says(0, "the input is empty: nothing was stored", "append", *address, "--stream", "never")
    says(1, "unknown_stream", "read", *address, "--stream", "never")
    foreign = case.path("foreign")
    os.mkdir(foreign)
    for verb in (("verify",), ("stat",), ("read", "--stream", "a")):
        says(1, "foreign/node.meta: there is none, so this is no data directory of millrace", *verb, "--data", foreign)
    server.stop()


def largest_record(case):
    """The limit that help names is the limit."""
    server = case.server()
    help_text = run("append", "--help").stdout.decode()
    limit = int(re.search(r"A record has at most (\d+) bytes", help_text).group(1))
    with open(os.path.join(harness.ROOT, "docs", "limits.md"), encoding="utf-8") as page:
        expect(f"{limit:,} bytes" in page.read(), f"docs/limits.md does not name {limit:,}")
    record = os.urandom(limit).replace(b"\n", b"x")
    server.append("large", record)
    expect(server.read("large").stdout == record + b"\n", "the largest record came back changed")
    says(1, f"too large: {limit + 1} bytes, and {limit} fit a batch", "append", "--server", server.address, "--stream", "large", stdin=record + b"x")
    length = (limit + 1).to_bytes(4, "little")
    says(1, f"the largest is {limit}", "append", "--server", server.address, "--stream", "large", "--delimiter", "len32", stdin=length + record + b"x")
    server.stop()
    return f"{limit} bytes"


def programs(case):
    """--help is a question to each program that is built beside the binary."""
    build = os.path.dirname(os.path.dirname(harness.BINARY))
    for program in ("examples/example-produce", "examples/example-consume"):
        path = os.path.join(build, program)
        done = subprocess.run([path, "--help"], capture_output=True, timeout=20)
        expect(done.returncode == 0 and b"usage: " in done.stderr, f"{program}: exit {done.returncode}: {done.stderr}")
        done = subprocess.run([path, "--bogus"], capture_output=True, timeout=20)
        expect(done.returncode == 2 and b"usage: " in done.stderr, f"{program} --bogus: exit {done.returncode}: {done.stderr}")


if __name__ == "__main__":
    sys.exit(main("messages", [
        ("words", words),
        ("largest_record", largest_record),
        ("programs", programs),
    ]))
