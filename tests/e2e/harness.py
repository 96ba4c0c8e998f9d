"""The real binary, from outside: starting it, killing it, talking to it, and judging what it leaves.

Each case prints what it has to say, then its line in GoogleTest's form, as tests/README.md wants it.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("MILLRACE") or os.path.join(ROOT, "build-gcc", "cli", "millrace")
STARTED = re.compile(r" serves (\S+) on ([0-9.:\[\]a-f]+):(\d+): ")


class Skip(Exception):
    """`needs` is a probe of scripts/means.py."""

    def __init__(self, needs, why):
        super().__init__(f"needs {needs}: {why}")


def expect(condition, why):
    if not condition:
        raise AssertionError(why)


def run(*arguments, stdin=None, timeout=120, check=True):
    """One verb of the binary, to its end; text in and out."""
    done = subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-400:]}")
    return done


class Server:
    """A server on a port of its own, with what it said. Small segments and little memory unless told otherwise."""

    def __init__(self, data, *flags, port=0, wait=True, small=True, timeout=60):
        self.data = data
        self.said = ""
        size = ["--segment-bytes", "16MiB"] if small and "--segment-bytes" not in flags else []
        command = [BINARY, "serve", "--data", data, "--listen", f"127.0.0.1:{port}", *size, *map(str, flags)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        os.set_blocking(self.process.stderr.fileno(), False)
        self.port = None
        if wait:
            self.wait_until_serving(timeout)

    def read_said(self, seconds=0.0):
        if select.select([self.process.stderr], [], [], seconds)[0]:
            piece = self.process.stderr.read()
            if piece:
                self.said += piece.decode(errors="replace")

    def wait_until_serving(self, timeout=60):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.read_said(0.05)
            found = STARTED.search(self.said)
            if found:
                self.port = int(found.group(3))
                return
            if self.process.poll() is not None:
                self.read_said(0.05)
                raise AssertionError(f"the server ended: {self.said[-600:]}")
        raise AssertionError(f"the server did not serve within {timeout} s: {self.said[-600:]}")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, within=5.0):
        """SIGTERM; exit 0 within five seconds is part of the contract."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=within + 5)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("SIGTERM did not end the server") from None
        self.read_said(0.1)
        took = time.monotonic() - began
        expect(status == 0, f"exit {status} after SIGTERM: {self.said[-600:]}")
        expect(took <= within, f"SIGTERM took {took:.1f} s")
        return took

    def wait_for_end(self, timeout=20):
        status = self.process.wait(timeout=timeout)
        self.read_said(0.1)
        return status

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) * 1024

    def append(self, stream, lines, *flags, **named):
        return run("append", "--server", self.address, "--stream", stream, *flags, stdin=lines, **named)

    def read(self, stream, *flags, **named):
        return run("read", "--server", self.address, "--stream", stream, *flags, **named)

    def expect_alive(self, stream="alive"):
        """Others keep their service."""
        self.append(stream, b"still here\n")
        expect(self.read(stream).stdout.endswith(b"still here\n"), "what was appended was not read back")


class Case:
    """A data directory of its own, and servers that never outlive it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="millrace-e2e-", dir=os.environ.get("TMPDIR") or os.getcwd())
        self.servers = []
        self.undo = []

    def path(self, name="data"):
        return os.path.join(self.folder, name)

    def server(self, *flags, name="data", **named):
        server = Server(self.path(name) if "/" not in name else name, *flags, **named)
        self.servers.append(server)
        return server

    def close(self):
        for server in self.servers:
            if server.process.poll() is None:
                server.kill()
        for undo in reversed(self.undo):
            undo()
        shutil.rmtree(self.folder, ignore_errors=True)


def lines(count, first=0, width=40):
    return b"".join(b"%s record %d\n" % (b"x" * (width - 15), number) for number in range(first, first + count))


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def main(suite, cases):
    """Runs the cases named on the command line, or all of them."""
    wanted = sys.argv[1:]
    failed = 0
    for name, function in cases:
        if wanted and name not in wanted:
            continue
        print(f"[ RUN      ] {suite}.{name}", flush=True)
        case = Case()
        began = time.monotonic()
        status = "      OK"
        try:
            said = function(case)
            if said:
                print(said)
        except Skip as skip:
            print(skip)
            status = " SKIPPED"
        except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
            failed += 1
            print(error)
            status = " FAILED "
        finally:
            case.close()
        print(f"[ {status} ] {suite}.{name} ({(time.monotonic() - began) * 1000:.0f} ms)", flush=True)
    return 1 if failed else 0
