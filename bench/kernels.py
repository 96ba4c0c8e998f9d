#!/usr/bin/env python3
"""io_uring against the posix kernel: the same server, the same work, in interleaved pairs on one machine.

There is no target: the figure is what io_uring brings. A pair is one run of each, in alternating order, each on a fresh directory with
the pool that a start prepares. The report is the median of each side and of the pairs' ratios (uring / posix) with quartiles, beside
uring against uring of the pair before (A/A). Every line that was ever measured stays in bench/results/kernels.jsonl.

    bench/kernels.py --build build-release                 all scenarios, 9 pairs
    bench/kernels.py --build build-release one-record --pairs 3 --seconds 1
    bench/kernels.py --report --seconds 1                  over all pairs of this commit, made in several calls
"""

import argparse
import pathlib
import resource
import socket
import sys
import tempfile

import rig

sys.path.insert(0, str(rig.ROOT / "tests" / "e2e"))
import wire  # noqa: E402

NAMES = {"uring": "io_uring", "posix": "posix"}
# name: (connections that only listen, what millrace-load gets)
SCENARIOS = {
    "saturation": (0, rig.FULL_LOAD),
    "one-batch": (0, ["--connections", "1", "--in-flight", "1", "--batch-bytes", "64KiB"]),
    "one-record": (0, ["--connections", "1", "--in-flight", "1", "--batch-records", "1"]),
    "ten-thousand": (9900, ["--connections", "100", "--in-flight", "1", "--batch-records", "10"]),
}
MEASURES = [("bytes_per_s", "MB/s", 1e6), ("requests_per_s", "requests/s", 1), ("p50_us", "p50 us", 1), ("p99_us", "p99 us", 1),
            ("server_cpu_s_per_gb", "server CPU s/GB", 1)]


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

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in self.sockets:
            connection.close()


def run_kernel(kernel, folder, scenario, options):
    idle, load = SCENARIOS[scenario]
    with rig.Server(options, folder, "--kernel", kernel) as server:
        uses = server.stat()["cores"][0]["kernel"]
        if uses != NAMES[kernel]:
            sys.exit(f"asked for {kernel}, got {uses}")
        server.wait_for_pool()
        with Idle(server.address, idle):
            return rig.run_load(server, *load, seconds=options.seconds, warmup=options.warmup)


def shown(result):
    return (f"{result['bytes_per_s'] / 1e6:.1f} MB/s {result['requests_per_s']:.0f} req/s p50 {result['p50_us'] or 0:.0f} us "
            f"{result['server_cpu_s_per_gb']:.2f} CPU s/GB")


def between(quartiles):
    low, middle, high = quartiles
    return f"{middle:.2f} [{low:.2f}..{high:.2f}]"


def ratios(above, below, measure):
    return [a[measure] / b[measure] for a, b in zip(above, below) if a.get(measure) and b.get(measure)]


def summarize(name, pairs, results):
    uring, posix = ([pair[kernel] for pair in pairs] for kernel in NAMES)
    for measure, unit, divisor in MEASURES:
        found = ratios(uring, posix, measure)
        if not found:
            rig.say(f"{name}: {unit}: not measured")
            continue
        same = ratios(uring[1:], uring, measure) or [1.0]
        medians = {kernel: rig.quartiles([row[measure] for row in side if row.get(measure)])[1] / divisor
                   for kernel, side in (("uring", uring), ("posix", posix))}
        rig.say(f"{name}: {unit}: uring {medians['uring']:.2f}, posix {medians['posix']:.2f}; ratio {between(rig.quartiles(found))}, "
                f"A/A {between(rig.quartiles(same))}, {len(found)} pairs")
        results.keep({"scenario": name, "summary": measure, **medians, "ratio": rig.quartiles(found), "aa": rig.quartiles(same),
                      "pairs": len(found)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"{', '.join(SCENARIOS)} (all)")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--report", action="store_true", help="measure nothing: judge all pairs kept of the commit, however many calls made them")
    rig.add_common_options(parser, "kernels.jsonl")
    options = parser.parse_args()
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    results = rig.Results(options.results)
    results.commit = options.commit or results.commit
    if options.report:
        for name in options.scenarios or SCENARIOS:
            kept = [row for row in results.rows(commit=results.commit, scenario=name, seconds=options.seconds) if "pair" in row]
            if kept:
                summarize(name, kept, results)
        return 0
    with tempfile.TemporaryDirectory(prefix="kernels-", dir=options.scratch) as scratch:
        folder = pathlib.Path(scratch)
        for name in options.scenarios or SCENARIOS:
            pairs = []
            for number in range(options.pairs):
                order = list(NAMES) if number % 2 == 0 else list(NAMES)[::-1]
                both = {kernel: run_kernel(kernel, folder, name, options) for kernel in order}
                pairs.append(both)
                results.keep({"scenario": name, "pair": number, **both, "seconds": options.seconds})
                rig.say(f"  {name} pair {number + 1}/{options.pairs}: " + " · ".join(f"{k} {shown(both[k])}" for k in NAMES))
            summarize(name, pairs, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
