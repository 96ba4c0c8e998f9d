#!/usr/bin/env python3
"""Compares Millrace with a yardstick, in interleaved pairs on one machine.

The yardstick is the least a server can do for a durable commit (a prototype without protocol, index or recovery). Its source is
not part of this repository: it is looked for as ../shared/design/limits/prototype.cpp from the repository upwards, or where
--prototype says. A pair is one run of each, in alternating order, and the yardstick once more; the report is the median of the
pairs' ratios with quartiles, beside the spread of the yardstick against itself (A/A). Every line that was ever measured stays
in bench/results/compare.jsonl, with its commit.

    bench/compare.py                            all scenarios, 9 pairs each
    bench/compare.py small --pairs 3            three pairs more; the summary is of all pairs of this commit
    bench/compare.py --report [--commit C]      the summaries of what was measured, without measuring

Scenarios:
    throughput     64 KiB requests, 4 connections x 16, from a full pool: every segment of the run is prepared before it
    sustained      the same for 30 s and at least 20 segments, which are zeroed while it runs
    latency        one 64 KiB request at a time: p50
    latency-tail   the same, long enough for p99.9 (100,000 requests)
    latency-small  one 200-byte record at a time
    small          200-byte records one to a request, 8 connections x 16
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

import rig


@dataclass
class Scenario:
    yardstick: dict  # what the prototype gets
    load: list  # what millrace-load gets
    measures: list  # (measure, better, target)
    seconds: float
    yardstick_seconds: float
    pool: int = 0  # segments prepared before the run
    serve: list = field(default_factory=list)
    segments_min: int = 0
    written_per_s: float = 0  # what the run leaves on the disk, at most
    zeroing: bool = False


SCENARIOS = {
    "throughput": Scenario({"conns": 4, "depth": 16}, rig.FULL_LOAD,
                           [("bytes_per_s", "higher", 0.70), ("server_cpu_s_per_gb", "lower", 1.5)], 2.2, 4, pool=56, segments_min=20),
    "sustained": Scenario({"conns": 4, "depth": 16}, rig.FULL_LOAD,
                          [("bytes_per_s", "higher", 0.65), ("server_cpu_s_per_gb", "lower", 1.5)], 30, 10, segments_min=20,
                          written_per_s=2.5e9, zeroing=True),
    "latency": Scenario({"conns": 1, "depth": 1}, ["--connections", "1", "--in-flight", "1", "--batch-bytes", "64KiB"],
                        [("p50_us", "lower", 1.3)], 3, 3),
    "latency-tail": Scenario({"conns": 1, "depth": 1}, ["--connections", "1", "--in-flight", "1", "--batch-bytes", "64KiB"],
                             [("p50_us", "lower", 1.3), ("p99_9_us", "lower", 2.0)], 40, 40),
    "latency-small": Scenario({"conns": 1, "depth": 1, "pay": 200},
                              ["--connections", "1", "--in-flight", "1", "--batch-records", "1"],
                              [("p50_us", "lower", 1.3)], 3, 3),
    "small": Scenario({"conns": 8, "depth": 16, "pay": 200}, ["--connections", "8", "--in-flight", "16", "--batch-records", "1"],
                      [("requests_per_s", "higher", 0.75), ("p99_us", "lower", 2.0)], 4, 4),
}

SAMPLES_BEYOND_MIN = 100  # as in millrace-load: a percentile with fewer samples beyond it is not given


def find_prototype(given):
    if given:
        return pathlib.Path(given)
    for folder in [rig.ROOT, *rig.ROOT.parents]:
        candidate = folder / ".." / "shared" / "design" / "limits" / "prototype.cpp"
        if candidate.exists():
            return candidate.resolve()
    return None


def build_prototype(source, folder):
    binary = folder / "prototype"
    subprocess.run(["g++-12", "-O2", "-march=x86-64-v3", "-std=c++20", "-w", "-o", str(binary), str(source), "-luring", "-lxxhash",
                    "-lpthread"], check=True)
    return binary


LINE = re.compile(r"\| +([\d.]+) MB/s +([\d.]+) frames/s +([\d.]+) rec/s p50=(\d+) p99=(\d+) p999=(\d+) max=(\d+) us "
                  r"\| srv cpu ([\d.]+)%")


def run_yardstick(binary, folder, scenario, seconds, options):
    """It counts the last 85 % of the time it is given."""
    words = [f"{key}={value}" for key, value in scenario.yardstick.items()]
    words += [f"ms={int(seconds * 1000 / 0.85)}", f"scpu={options.server_cpu}", f"ccpu={options.load_cpu}",
              f"file={folder / 'yardstick.bin'}"]
    text = subprocess.run([str(binary), *words], check=True, capture_output=True, text=True, timeout=300).stdout
    match = LINE.search(text)
    if not match:
        sys.exit(f"the yardstick said something else: {text}")
    megabytes, frames, _, p50, p99, p999, worst, cpu = map(float, match.groups())
    samples = frames * seconds

    def enough(value, part_beyond):
        return value if samples * part_beyond >= SAMPLES_BEYOND_MIN else None
    return {"bytes_per_s": megabytes * 1e6, "requests_per_s": frames, "p50_us": p50, "p99_us": enough(p99, 0.01),
            "p99_9_us": enough(p999, 0.001), "max_us": worst,
            "server_cpu_s_per_gb": cpu / 100 / (megabytes / 1000) if megabytes else None}


def bounded_disk(scenario, seconds, options):
    """Words for `serve` that keep the run within the disk."""
    free = shutil.disk_usage(options.scratch).free
    needed = scenario.written_per_s * (seconds + options.warmup) + 8 * rig.GB
    if scenario.written_per_s == 0 or free >= needed:
        return []
    bound = 24 << 30
    if free < 2 * bound:
        raise rig.Missing(f"needs {2 * bound / rig.GB:.0f} GB free, there are {free / rig.GB:.0f}")
    return ["--retain-bytes", str(bound)]


def run_millrace(folder, scenario, seconds, options):
    words = scenario.serve + bounded_disk(scenario, seconds, options)
    with rig.Server(options, folder, *words, pool=scenario.pool) as server:
        ready = server.wait_for_pool()
        before = server.shard()
        result = rig.run_load(server, *scenario.load, seconds=seconds, warmup=options.warmup)
        stat = server.stat()
        after = stat["shards"][0]
    result["segments"] = after["segment_number"] - before["segment_number"]
    result["zeroed_bytes"] = after["prepared_bytes"] - before["prepared_bytes"]
    result["written_bytes"] = after["write_bytes"] - before["write_bytes"]
    result["pool_before"], result["pool_after"] = ready, after["pool_ready"]
    result["longest_turn_us"] = rig.longest_turn_us(stat)
    result["serve_words"] = words
    # Only the whole contract counts: a burst that outran its pool, or a sustained run that never zeroed, is another scenario.
    if scenario.pool > 0 and after["pool_ready"] == 0:
        rig.say("  the pool ran dry in this run: it is kept, and marked")
        result["marked"] = "pool ran dry"
    if seconds >= scenario.seconds and result["segments"] < scenario.segments_min:
        rig.say(f"  only {result['segments']} segments in this run: it is kept, and marked")
        result["marked"] = "too few segments"
    if scenario.zeroing and result["zeroed_bytes"] == 0:
        result["marked"] = "nothing was zeroed"
    return result


def per_second(result):
    p50 = f"p50 {result['p50_us']:.0f} us" if result["p50_us"] else "p50 -"
    return f"{result['bytes_per_s'] / 1e6:.0f} MB/s {result['requests_per_s']:.0f} req/s {p50}"


def measure_scenario(name, binary, folder, options, results):
    scenario = SCENARIOS[name]
    seconds = options.seconds or scenario.seconds
    yardstick_seconds = options.seconds or scenario.yardstick_seconds

    def yardstick():
        return run_yardstick(binary, folder, scenario, yardstick_seconds, options)

    def ours():
        return run_millrace(folder, scenario, seconds, options)
    yardstick_file = folder / "yardstick.bin"
    if not yardstick_file.exists():
        run_yardstick(binary, folder, scenario, 0.2, options)  # it writes its file before its first run
    for number in range(options.pairs):
        if number % 2 == 0:
            theirs, mine = yardstick(), ours()
        else:
            mine, theirs = ours(), yardstick()
        again = yardstick() if options.again else None
        results.keep({"scenario": name, "pair": number, "millrace": mine, "yardstick": theirs, "yardstick_again": again,
                      "seconds": seconds, "yardstick_seconds": yardstick_seconds})
        rig.say(f"  {name} pair {number + 1}/{options.pairs}: millrace {per_second(mine)} · yardstick {per_second(theirs)}"
                + (f", again {per_second(again)}" if again else ""))


def ratio_of(ours, theirs, measure):
    a, b = (ours or {}).get(measure), (theirs or {}).get(measure)
    return a / b if a and b else None


PAIRS_MIN = 9


def summarize(name, results, commit):
    """All whole pairs of this commit; False when a target is missed, None when there are too few to judge."""
    scenario = SCENARIOS[name]
    rows = [row for row in results.rows(commit=commit, scenario=name)
            if "pair" in row and row["seconds"] >= scenario.seconds and "marked" not in row["millrace"]]
    passed = True if rows else None
    for measure, better, target in scenario.measures:
        ratios = [r for r in (ratio_of(row["millrace"], row["yardstick"], measure) for row in rows) if r]
        same = [r for r in (ratio_of(row.get("yardstick_again"), row["yardstick"], measure) for row in rows) if r]
        if not ratios:
            rig.say(f"{name}: {measure}: not measured")
            passed = None
            continue
        low, middle, high = rig.quartiles(ratios)
        good = middle >= target if better == "higher" else middle <= target
        enough = len(ratios) >= PAIRS_MIN
        passed = None if passed is None or not enough else passed and good
        verdict = ("passed" if good else "MISSED") if enough else f"not decided, {PAIRS_MIN} pairs are asked for"
        sign = ">=" if better == "higher" else "<="
        spread = "A/A {1:.2f} [{0:.2f}..{2:.2f}]".format(*rig.quartiles(same)) if same else "A/A not measured"
        values = [rig.quartiles([row[side][measure] for row in rows if row[side].get(measure)])[1]
                  for side in ("millrace", "yardstick")]
        rig.say(f"{name}: {measure}: {middle:.2f} of the yardstick [{low:.2f}..{high:.2f}], target {sign} {target}: "
                f"{verdict}; {spread}; medians {values[0]:.4g} and {values[1]:.4g}; {len(ratios)} pairs")
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"{', '.join(SCENARIOS)} (all)")
    rig.add_common_options(parser, "compare.jsonl")
    parser.add_argument("--prototype", help="source of the yardstick")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, help="of each run (the scenario's own); shorter ones are kept and not judged")
    parser.add_argument("--warmup", type=float, default=0.7)
    parser.add_argument("--no-again", dest="again", action="store_false", help="leave out the second yardstick run (A/A) of pairs")
    parser.add_argument("--report", action="store_true", help="judge what was measured, measure nothing")
    options = parser.parse_args()
    names = options.scenarios or list(SCENARIOS)
    for name in names:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name}")
    rig.end_cleanly()
    results = rig.Results(options.results, options.commit)
    if not options.report:
        source = find_prototype(options.prototype)
        if source is None:
            print("needs the yardstick's source: ../shared/design/limits/prototype.cpp, or --prototype")
            return 77
        with tempfile.TemporaryDirectory(prefix="compare-", dir=options.scratch) as scratch:
            folder = pathlib.Path(scratch)
            binary = build_prototype(source, folder)
            for name in names:
                try:
                    measure_scenario(name, binary, folder, options, results)
                except rig.Missing as missing:
                    rig.say(f"{name}: not measured: {missing}")
    verdicts = [summarize(name, results, results.commit) for name in names]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
