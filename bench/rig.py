"""What every measurement needs: a server on a fresh directory, load on it, what the device counted, and a place for results.

Servers run on one CPU and load on another. Data directories stand on the filesystem that is measured and go when the run is
over. Results are lines of JSON in bench/results, each with its commit; nothing is ever taken out.
"""

import json
import mmap
import os
import pathlib
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MiB = 1 << 20
GB = 1_000_000_000
SEGMENT_BYTES = 128 * MiB
FULL_LOAD = ["--connections", "4", "--in-flight", "16", "--batch-bytes", "64KiB"]


class Missing(Exception):
    """This measurement cannot be made here; says why."""


def end_cleanly():
    """SIGTERM ends like an error does: servers are stopped and data is removed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def say(*words):
    print(*words, flush=True)


def add_common_options(parser, results):
    parser.add_argument("--build", default=str(ROOT / "build-release"), help="a release build of this repository")
    parser.add_argument("--server-cpu", type=int, default=min(1, os.cpu_count() - 1),
                        help="CPU of the servers; best where the disk's interrupt is")
    parser.add_argument("--load-cpu", type=int, default=0)
    parser.add_argument("--scratch", default=str(ROOT), help="folder for data, on the filesystem to measure (the repository)")
    parser.add_argument("--results", default=str(ROOT / "bench" / "results" / results))
    parser.add_argument("--commit", help="what the build was made of, or whose lines to judge (this tree's)")
    parser.add_argument("--serve", action="append", default=[], help="a further word for `millrace serve`")


class Results:
    """Appends rows to a file, each with its commit, time and machine."""

    def __init__(self, path, commit=None):
        self.path = pathlib.Path(path)
        self.commit = commit or commit_of()

    def keep(self, row):
        head = {"commit": self.commit, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "machine": f"{os.cpu_count()} CPUs, Linux {os.uname().release}", "load_average": round(os.getloadavg()[0], 1)}
        with open(self.path, "a") as file:
            file.write(json.dumps({**head, **row}) + "\n")

    def rows(self, **wanted):
        if not self.path.exists():
            return []
        rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def commit_of():
    """The commit of what is measured; + when its sources were changed since."""
    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!docs")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def need_disk(folder, bytes_needed, what):
    free = shutil.disk_usage(folder).free
    if free < bytes_needed:
        raise Missing(f"{what} needs {bytes_needed / GB:.0f} GB free, there are {free / GB:.0f}")


class Device:
    """Counters of the disk below a folder, from /sys; None where it does not say."""

    def __init__(self, folder):
        number = os.stat(folder).st_dev
        self.path = pathlib.Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")

    def read(self):
        """{"written": bytes, "writes": requests, "flushes": requests}"""
        try:
            fields = [int(word) for word in self.path.read_text().split()]
        except OSError:
            return None
        return {"written": fields[6] * 512, "writes": fields[4], "flushes": fields[15] if len(fields) > 15 else 0}


    def settle(self, seconds=60):
        """Until the device has nothing to do: files that were removed are discarded behind the back of whoever comes next."""
        os.sync()
        still, before = 0, None
        end = time.monotonic() + seconds
        while still < 4 and time.monotonic() < end:
            try:
                fields = [int(word) for word in self.path.read_text().split()]
            except OSError:
                return
            quiet = fields[8] == 0 and before is not None and fields[11:15] == before
            still = still + 1 if quiet else 0
            before = fields[11:15]
            time.sleep(0.25)


def difference(after, before):
    return {key: after[key] - before[key] for key in after} if after and before else None


def size_of(path):
    try:
        return path.stat().st_size
    except OSError:
        return 0


def fill_pool(data, segments):
    """Prepared segments as the server would make them: zeros in written blocks, durable."""
    pool = data / "shard-00" / "pool"
    zeros = mmap.mmap(-1, 4 * MiB)
    for _ in range(segments):
        path = pool / f"seg-{secrets.token_hex(16)}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o644)
        os.posix_fallocate(file, 0, SEGMENT_BYTES)
        for at in range(0, SEGMENT_BYTES, len(zeros)):
            os.pwrite(file, zeros, at)
        os.fsync(file)
        os.close(file)
    folder = os.open(pool, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


class Server:
    """A server on a directory of its own (a fresh one unless `keep`); `address` is there when it answers."""

    def __init__(self, options, folder, *words, keep=False, pool=0):
        self.options = options
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.binary = pathlib.Path(options.build).resolve() / "cli" / "millrace"
        self.words = [*words, *options.serve]
        self.process = None
        self.loads = []
        if not keep:
            shutil.rmtree(self.data, ignore_errors=True)
        if pool > 0:
            self.start()
            self.end()
            fill_pool(self.data, pool)
        self.start()

    def start(self):
        path = self.folder / "server.log"
        words = [str(self.binary), "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", "--cores",
                 str(self.options.server_cpu), *self.words]
        begun = time.monotonic()
        with open(path, "w") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        while time.monotonic() < begun + 900:
            found = re.search(r" on (127\.0\.0\.1:\d+)", path.read_text())
            if found:
                self.address = found.group(1)
                self.serving_after = time.monotonic() - begun
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        sys.exit(f"the server did not start: {path.read_text()}")

    def said(self):
        return (self.folder / "server.log").read_text()

    def run(self, verb, *words, timeout=900):
        return subprocess.run([str(self.binary), verb, "--server", self.address, *words], capture_output=True, timeout=timeout)

    def stat(self):
        return json.loads(self.run("stat", "--json").stdout)

    def shard(self):
        return self.stat()["shards"][0]

    def wait_for_pool(self, seconds=20):
        """Segments are prepared in the background: until their number stands still."""
        ready, still = -1, 0
        end = time.monotonic() + seconds
        while time.monotonic() < end and still < 4:
            now = self.shard()["pool_ready"]
            still = still + 1 if now == ready else 0
            ready = now
            time.sleep(0.25)
        return ready

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for load in self.loads:
            if load.poll() is None:
                load.kill()
                load.wait()
        if self.process.poll() is None:
            self.end()
        shutil.rmtree(self.data, ignore_errors=True)
        Device(self.folder).settle()


class Load:
    """millrace-load beside a server: started, and later waited for."""

    def __init__(self, server, *words, seconds, warmup=1.0):
        self.server = server
        self.out = server.folder / "load.json"
        options = server.options
        self.process = subprocess.Popen(
            ["taskset", "-c", str(options.load_cpu), str(pathlib.Path(options.build).resolve() / "bench" / "millrace-load"),
             "--server", server.address, "--warmup", str(warmup), "--seconds", str(seconds), "--json", str(self.out),
             "--server-pid", str(server.process.pid), *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        server.loads.append(self.process)

    def result(self, timeout=900):
        _, said = self.process.communicate(timeout=timeout)
        if self.process.returncode != 0:
            sys.exit(f"millrace-load failed: {said}")
        result = json.loads(self.out.read_text())
        latency = result.pop("latency_us")
        result.update({f"{name}_us": latency[name] for name in ("p50", "p90", "p99", "p99_9", "max")})
        result["latency_count"] = latency["count"]
        return result


def run_load(server, *words, seconds, warmup=1.0):
    return Load(server, *words, seconds=seconds, warmup=warmup).result()


def longest_turn_us(stat):
    return max((core.get("longest_turn_us", 0) for core in stat.get("cores", [])), default=None)
