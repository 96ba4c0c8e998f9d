#!/usr/bin/env python3
"""io_uring against the posix kernel: the same server, the same work, in interleaved pairs on one machine.

There is no target: the figure is what io_uring brings. Every pair is one run of each in alternating order, on a fresh directory with
a full pool; the report is the median of the pairs' ratios (uring / posix) with quartiles, beside uring against itself (A/A: the
first run of a pair against that of the pair before). Every line that was ever measured stays in bench/results/kernels.jsonl.

    bench/kernels.py --build build-release                 all scenarios, 9 pairs
    bench/kernels.py --build build-release one-record --pairs 3 --seconds 1
"""

import argparse
import json
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

import compare

sys.path.insert(0, str(compare.ROOT / "tests" / "e2e"))
import wire

THROUGHPUT = [("bytes_per_s", "MB/s", 1e6), ("server_cpu_s_per_gb", "CPU s/GB", 1)]
LATENCY = [("p50_us", "p50 us", 1), ("p99_us", "p99 us", 1), ("requests_per_s", "requests/s", 1), ("server_cpu_s_per_gb", "CPU s/GB", 1)]

# name: (connections that only listen, what millrace-load gets, [(measure, its name, divisor)])
SCENARIOS = {
    "saturation": (0, ["--connections", "4", "--in-flight", "16", "--batch-bytes", "64KiB"], THROUGHPUT),
    "one-batch": (0, ["--connections", "1", "--in-flight", "1", "--batch-bytes", "64KiB"], LATENCY),
    "one-record": (0, ["--connections", "1", "--in-flight", "1", "--batch-records", "1"], LATENCY),
    "ten-thousand": (9900, ["--connections", "100", "--in-flight", "1", "--batch-records", "10"], LATENCY),
}


class Idle:
    """Connections that were welcomed and say nothing."""

    def __init__(self, address, count):
        host, port = address.split(":")
        self.sockets = []
        for _ in range(count):
            connection = socket.create_connection((host, int(port)), timeout=20)
            connection.sendall(wire.hello(b"idle"))
            self.sockets.append(connection)
        for connection in self.sockets:
            if wire.receive(connection)[0] != wire.WELCOME:
                sys.exit("a connection got no welcome")

    def close(self):
        for connection in self.sockets:
            connection.close()


def run_kernel(kernel, build, folder, scenario, options):
    idle_count, arguments, _ = SCENARIOS[scenario]
    options.serve = ["--kernel", kernel]
    server = compare.Server(build, folder, options)
    idle = None
    try:
        uses = server.stat()["cores"][0]["kernel"]
        if uses != {"uring": "io_uring"}.get(kernel, kernel):
            sys.exit(f"asked for {kernel}, got {uses}")
        idle = Idle(server.address, idle_count)
        out = folder / "load.json"
        words = ["taskset", "-c", str(options.load_cpu), str(build / "bench" / "millrace-load"), "--server", server.address, "--warmup",
                 str(options.warmup), "--seconds", str(options.seconds), "--json", str(out), "--server-pid", str(server.process.pid)]
        done = subprocess.run(words + arguments, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            sys.exit(f"millrace-load failed: {done.stderr}")
        result = json.loads(out.read_text())
    finally:
        if idle:
            idle.close()
        server.stop()
    latency = result.pop("latency_us")
    result.update({f"{name}_us": latency[name] for name in ("p50", "p99", "p99_9", "max")})
    return result


def median_text(values):
    low, middle, high = compare.quartiles(values)
    return f"{middle:.2f} [{low:.2f}..{high:.2f}]"


def measure_scenario(name, build, folder, options, keep):
    pairs = []
    for number in range(options.pairs):
        order = ["uring", "posix"] if number % 2 == 0 else ["posix", "uring"]
        both = {kernel: run_kernel(kernel, build, folder, name, options) for kernel in order}
        pairs.append(both)
        keep({"scenario": name, "pair": number, **both, "seconds": options.seconds})
        print(f"  {name} pair {number + 1}/{options.pairs}: " + " · ".join(
            f"{kernel} {both[kernel]['bytes_per_s'] / 1e6:.1f} MB/s {both[kernel]['requests_per_s']:.0f} req/s "
            f"p50 {both[kernel]['p50_us']} us, {both[kernel]['server_cpu_s_per_gb']:.2f} CPU s/GB" for kernel in ("uring", "posix")), flush=True)
    for measure, words, divisor in SCENARIOS[name][2]:
        ratios = [r for r in (compare.ratio_of(p["uring"], p["posix"], measure) for p in pairs) if r]
        same = [r for r in (compare.ratio_of(b["uring"], a["uring"], measure) for a, b in zip(pairs, pairs[1:])) if r]
        if not ratios:
            print(f"{name}: {words}: not measured")
            continue
        medians = {kernel: compare.quartiles([p[kernel][measure] for p in pairs if p[kernel].get(measure)])[1] / divisor
                   for kernel in ("uring", "posix")}
        print(f"{name}: {words}: uring {medians['uring']:.2f}, posix {medians['posix']:.2f}; uring / posix {median_text(ratios)}, "
              f"A/A {median_text(same or [1])}, {len(ratios)} pairs")
        keep({"scenario": name, "summary": measure, "uring": medians["uring"], "posix": medians["posix"], "unit": words,
              "ratio": compare.quartiles(ratios), "aa": compare.quartiles(same or [1]), "pairs": len(ratios), "seconds": options.seconds})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"{', '.join(SCENARIOS)} (all)")
    parser.add_argument("--build", default=str(compare.ROOT / "build-release"), help="a release build of this repository")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--server-cpu", type=int, default=1)
    parser.add_argument("--load-cpu", type=int, default=0)
    parser.add_argument("--pool-wait", type=float, default=20)
    parser.add_argument("--scratch", help="folder for data, on the filesystem to measure (one in the repository)")
    parser.add_argument("--commit", default=compare.commit_of(), help="what the build was made of (the working tree's)")
    parser.add_argument("--results", default=str(compare.ROOT / "bench" / "results" / "kernels.jsonl"))
    options = parser.parse_args()
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    common = {"commit": options.commit, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
              "machine": f"{compare.os.cpu_count()} CPUs, Linux {compare.os.uname().release}"}

    def keep(row):
        with open(options.results, "a", encoding="ascii") as results:
            results.write(json.dumps({**common, **row}) + "\n")

    with tempfile.TemporaryDirectory(prefix="kernels-", dir=options.scratch or compare.ROOT) as scratch:
        for name in options.scenarios or SCENARIOS:
            measure_scenario(name, pathlib.Path(options.build).resolve(), pathlib.Path(scratch), options, keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
