#!/usr/bin/env python3
"""Compares Millrace with a yardstick, in interleaved pairs on one machine.

The yardstick is the least a server can do for a durable commit (a prototype without protocol, index or recovery). Its source is
not part of this repository: it is looked for as ../shared/design/limits/prototype.cpp from the repository upwards, or where
--prototype says. Every pair is one run of each, in alternating order; the report is the median of the pairs' ratios with
quartiles, beside the spread of the yardstick against itself (A/A). Every line that was ever measured stays in
bench/results/compare.jsonl, with its commit.

    bench/compare.py --build build-release                 all scenarios, 9 pairs
    bench/compare.py --build build-release small --pairs 3 --seconds 1
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# name: (what the prototype gets, what millrace-load gets, [(measure, better, target)])
SCENARIOS = {
    "throughput": (
        {"conns": 4, "depth": 16},
        ["--connections", "4", "--in-flight", "16", "--batch-bytes", "64KiB"],
        [("bytes_per_s", "higher", 0.70), ("server_cpu_s_per_gb", "lower", 1.5)],
    ),
    "latency": (
        {"conns": 1, "depth": 1},
        ["--connections", "1", "--in-flight", "1", "--batch-bytes", "64KiB"],
        [("p50_us", "lower", 1.3), ("p99_9_us", "lower", 2.0)],
    ),
    "latency-small": (
        {"conns": 1, "depth": 1, "pay": 200},
        ["--connections", "1", "--in-flight", "1", "--batch-records", "1"],
        [("p50_us", "lower", 1.3)],
    ),
    "small": (
        {"conns": 8, "depth": 16, "pay": 200},
        ["--connections", "8", "--in-flight", "16", "--batch-records", "1"],
        [("requests_per_s", "higher", 0.75), ("p99_us", "lower", 2.0)],
    ),
}


def find_prototype(given):
    if given:
        return pathlib.Path(given)
    for folder in [ROOT, *ROOT.parents]:
        candidate = folder / ".." / "shared" / "design" / "limits" / "prototype.cpp"
        if candidate.exists():
            return candidate.resolve()
    return None


def build_prototype(source, folder):
    binary = folder / "prototype"
    subprocess.run(["g++", "-O2", "-march=x86-64-v3", "-std=c++20", "-w", "-o", str(binary), str(source), "-luring", "-lxxhash",
                    "-lpthread"], check=True)
    return binary


LINE = re.compile(r"\| +([\d.]+) MB/s +([\d.]+) frames/s +([\d.]+) rec/s p50=(\d+) p99=(\d+) p999=(\d+) max=(\d+) us "
                  r"\| srv cpu ([\d.]+)%")


def run_prototype(binary, folder, arguments, options):
    words = [f"{k}={v}" for k, v in arguments.items()]
    words += [f"ms={int(options.seconds * 1000 / 0.85)}", f"scpu={options.server_cpu}", f"ccpu={options.load_cpu}",
              f"file={folder / 'yardstick.bin'}"]
    text = subprocess.run([str(binary), *words], check=True, capture_output=True, text=True, timeout=300).stdout
    match = LINE.search(text)
    if not match:
        sys.exit(f"the yardstick said something else: {text}")
    megabytes, frames, records, p50, p99, p999, worst, cpu = map(float, match.groups())
    return {"bytes_per_s": megabytes * 1e6, "requests_per_s": frames, "p50_us": p50, "p99_us": p99, "p99_9_us": p999,
            "max_us": worst, "server_cpu_s_per_gb": cpu / 100 / (megabytes / 1000) if megabytes else None}


class Server:
    """A fresh server on a fresh directory; `ready` waits until it answers and its pool has filled."""

    def __init__(self, build, folder, options):
        self.data = folder / "data"
        shutil.rmtree(self.data, ignore_errors=True)
        self.binary = build / "cli" / "millrace"
        words = [str(self.binary), "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", "--cores", str(options.server_cpu)]
        self.log = open(folder / "server.log", "w+")
        self.process = subprocess.Popen(words + options.serve, stdout=self.log, stderr=self.log)
        self.address = self.wait_for_address(folder / "server.log")
        self.wait_for_pool(options.pool_wait)

    def wait_for_address(self, path):
        for _ in range(600):
            found = re.search(r" on (127\.0\.0\.1:\d+)", path.read_text())
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"the server did not start: {path.read_text()}")

    def stat(self):
        text = subprocess.run([str(self.binary), "stat", "--server", self.address, "--json"], capture_output=True, text=True)
        try:
            return json.loads(text.stdout)
        except ValueError:
            return {}

    def wait_for_pool(self, seconds):
        """Segments are prepared in the background; a burst is measured from a full pool."""
        ready, still = -1, 0
        end = time.time() + seconds
        while time.time() < end and still < 4:
            now = sum(shard.get("pool_ready", 0) for shard in self.stat().get("shards", []))
            still = still + 1 if now == ready else 0
            ready = now
            time.sleep(0.25)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)


def run_millrace(build, folder, arguments, options):
    server = Server(build, folder, options)
    try:
        out = folder / "load.json"
        words = ["taskset", "-c", str(options.load_cpu), str(build / "bench" / "millrace-load"), "--server", server.address,
                 "--warmup", str(options.warmup), "--seconds", str(options.seconds), "--json", str(out), *arguments]
        words += ["--server-pid", str(server.process.pid)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            sys.exit(f"millrace-load failed: {done.stderr}")
        result = json.loads(out.read_text())
        stat = server.stat()
    finally:
        server.stop()
    latency = result.pop("latency_us")
    result.update({f"{name}_us": latency[name] for name in ("p50", "p90", "p99", "p99_9", "max")})
    result["latency_count"] = latency["count"]
    result["longest_turn_us"] = max((core.get("longest_turn_us", 0) for core in stat.get("cores", [])), default=None)
    return result


def commit_of():
    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio_of(ours, theirs, measure):
    a, b = ours.get(measure), theirs.get(measure)
    return a / b if a and b else None


def measure_scenario(name, binary, build, folder, options, keep):
    prototype_arguments, load_arguments, measures = SCENARIOS[name]
    pairs, same = [], []
    for number in range(options.pairs):
        def yardstick():
            return run_prototype(binary, folder, prototype_arguments, options)

        def ours():
            return run_millrace(build, folder, load_arguments, options)
        if number % 2 == 0:
            theirs, mine = yardstick(), ours()
        else:
            mine, theirs = ours(), yardstick()
        again = yardstick()
        pairs.append((mine, theirs))
        same.append((again, theirs))
        keep({"scenario": name, "pair": number, "millrace": mine, "yardstick": theirs, "yardstick_again": again,
              "seconds": options.seconds})
        print(f"  {name} pair {number + 1}/{options.pairs}: millrace {mine['bytes_per_s'] / 1e6:.0f} MB/s "
              f"{mine['requests_per_s']:.0f} req/s p50 {mine['p50_us']} us · yardstick {theirs['bytes_per_s'] / 1e6:.0f} MB/s "
              f"{theirs['requests_per_s']:.0f} req/s p50 {theirs['p50_us']} us", flush=True)
    passed = True
    for measure, better, target in measures:
        ratios = [r for r in (ratio_of(m, t, measure) for m, t in pairs) if r]
        spread = [r for r in (ratio_of(a, t, measure) for a, t in same) if r]
        if not ratios:
            print(f"{name}: {measure}: not measured")
            continue
        low, middle, high = quartiles(ratios)
        aa_low, aa_middle, aa_high = quartiles(spread)
        good = middle >= target if better == "higher" else middle <= target
        passed &= good
        sign = ">=" if better == "higher" else "<="
        print(f"{name}: {measure}: {middle:.2f} of the yardstick [{low:.2f}..{high:.2f}], target {sign} {target}: "
              f"{'passed' if good else 'MISSED'}; A/A {aa_middle:.2f} [{aa_low:.2f}..{aa_high:.2f}]")
        keep({"scenario": name, "summary": measure, "ratio": middle, "quartiles": [low, high], "target": target,
              "better": better, "passed": good, "aa": aa_middle, "aa_quartiles": [aa_low, aa_high], "pairs": len(ratios),
              "seconds": options.seconds})
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"{', '.join(SCENARIOS)} (all)")
    parser.add_argument("--build", default=str(ROOT / "build-release"), help="a release build of this repository")
    parser.add_argument("--prototype", help="source of the yardstick")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--warmup", type=float, default=0.7)
    parser.add_argument("--server-cpu", type=int, default=1, help="CPU of both servers; best where the disk's interrupt is")
    parser.add_argument("--load-cpu", type=int, default=0)
    parser.add_argument("--pool-wait", type=float, default=20, help="at most so many seconds until the pool has filled")
    parser.add_argument("--scratch", help="folder for data, on the filesystem to measure (one in the repository)")
    parser.add_argument("--results", default=str(ROOT / "bench" / "results" / "compare.jsonl"))
    parser.add_argument("--serve", action="append", default=[], help="a further word for `millrace serve`")
    options = parser.parse_args()
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name}")
    source = find_prototype(options.prototype)
    if source is None:
        print("needs the yardstick's source: ../shared/design/limits/prototype.cpp, or --prototype")
        return 77
    common = {"commit": commit_of(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
              "machine": f"{os.cpu_count()} CPUs, Linux {os.uname().release}"}

    def keep(row):
        with open(options.results, "a") as results:
            results.write(json.dumps({**common, **row}) + "\n")

    build = pathlib.Path(options.build).resolve()
    with tempfile.TemporaryDirectory(prefix="compare-", dir=options.scratch or ROOT) as scratch:
        folder = pathlib.Path(scratch)
        binary = build_prototype(source, folder)
        results = [measure_scenario(name, binary, build, folder, options, keep) for name in options.scenarios or SCENARIOS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
