#!/usr/bin/env python3
"""Measures Millrace alone: what it costs, and what it must never do. Every line stays in bench/results/measure.jsonl.

    bench/measure.py                   all scenarios
    bench/measure.py turn --seconds 60

Scenarios:
    streams    10,000 streams, whole batches round robin, against one stream, in pairs
    spread     the same records a second, one record to a stream in turn: what comes through, and the batches that come of it
    counters   at a steady load: heap allocations, writes handed to io_uring's workers, device flushes an acknowledgement round
    space      bytes of log, index and tail a byte of payload, at full load and at 1,000 and 20 commits of one record a second
    turn       the longest turn of a shard at half load while segments close, beside the commits' p99.9; with --profile the parts
    restart    kill -9 with 20 GB stored (tests/e2e/restart_size.py), with and without the derivable files
"""

import argparse
import copy
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import rig
import space
import turns
from kernel_counts import Punts, extent_borders
from rig import GB, MiB

MANY = ["--streams", "10000"]


def verdict(good):
    return "passed" if good else "MISSED"


def streams(folder, options, results):
    """Pairs of one stream and ten thousand, each on a fresh server with a full pool; one stream again as A/A."""
    def once(words):
        with rig.Server(options, folder, pool=56) as server:
            server.wait_for_pool()
            result = rig.run_load(server, *rig.FULL_LOAD, *words, seconds=options.seconds or 2.2, warmup=0.7)
            result["pool_after"] = server.shard()["pool_ready"]
            return result
    ratios, same = [], []
    for number in range(options.pairs):
        order = [[], MANY] if number % 2 == 0 else [MANY, []]
        got = {len(words): once(words) for words in order}
        one, many = got[0], got[len(MANY)]
        again = once([])
        ratios.append(many["bytes_per_s"] / one["bytes_per_s"])
        same.append(again["bytes_per_s"] / one["bytes_per_s"])
        results.keep({"scenario": "streams", "pair": number, "one": one, "many": many, "one_again": again})
        rig.say(f"  streams pair {number + 1}/{options.pairs}: one {one['bytes_per_s'] / 1e6:.0f} MB/s, "
                f"10,000 {many['bytes_per_s'] / 1e6:.0f} MB/s, one again {again['bytes_per_s'] / 1e6:.0f} MB/s")
    low, middle, high = rig.quartiles(ratios)
    spread_low, spread_middle, spread_high = rig.quartiles(same)
    good = middle >= 0.85
    results.keep({"scenario": "streams", "summary": middle, "quartiles": [low, high], "aa": spread_middle,
                  "aa_quartiles": [spread_low, spread_high], "target": 0.85, "passed": good, "pairs": len(ratios)})
    rig.say(f"streams: 10,000 reach {middle:.2f} of one [{low:.2f}..{high:.2f}], target >= 0.85: {verdict(good)}; "
            f"A/A {spread_middle:.2f} [{spread_low:.2f}..{spread_high:.2f}]")
    return good


def spread(folder, options, results):
    """One record to a stream in turn, at the rate that one stream took, and as much as comes through of it."""
    seconds = options.seconds or 4
    with rig.Server(options, folder) as server:
        server.wait_for_pool()
        one = rig.run_load(server, *rig.FULL_LOAD, seconds=seconds, warmup=0.7)
    for rate in (one["records_per_s"], one["records_per_s"] / 10, 100_000):
        with rig.Server(options, folder) as server:
            server.wait_for_pool()
            words = ["--connections", "4", "--in-flight", "16", *MANY, "--spread", "--rate", str(int(rate))]
            result = rig.run_load(server, *words, seconds=seconds)
        results.keep({"scenario": "spread", "rate": rate, "one_stream": one["records_per_s"], "result": result})
        p50 = result["p50_us"]
        rig.say(f"spread: asked for {rate:,.0f} records/s over 10,000 streams: {result['records_per_s']:,.0f} came through in batches "
                f"of {result['records_per_batch']:.1f}, p50 {p50 / 1000 if p50 else 0:.2f} ms, {result['unsent_requests']:,} never sent")
    return True


def allocations(stat):
    return stat["server"].get("heap_allocations", 0)


def rounds(shard):
    return sum(shard[name] for name in ("slot_writes", "group_writes", "durable_end_writes"))


STEADY_SEGMENTS = 5   # closed before a look at what is steady
WATCH_WAIT_MAX = 10.0  # seconds for them


def watch(server, device, words, seconds):
    """A load, and what changed within `seconds` of its steady middle: every piece of memory that is used again has been used once."""
    begun = time.monotonic()
    load = rig.Load(server, *words, seconds=seconds + WATCH_WAIT_MAX, warmup=1)
    time.sleep(1.5)
    while server.shard()["segment_number"] < STEADY_SEGMENTS and time.monotonic() < begun + WATCH_WAIT_MAX:
        time.sleep(0.2)
    server.stat()
    idle = allocations(server.stat())
    first = server.stat()
    own = allocations(first) - idle  # what one look costs
    disk = device.read()
    with Punts(server.process.pid) as punts:
        time.sleep(seconds)
    disk = rig.difference(device.read(), disk)
    last = server.stat()
    load.result()
    return first, last, own, disk, punts


def counters(folder, options, results):
    """Little batches leave one segment open all the time; full load passes through many."""
    seconds = options.seconds or 8
    device = rig.Device(folder)
    good = True
    for name, words in (("small", ["--connections", "8", "--in-flight", "16", "--batch-records", "1"]), ("full", rig.FULL_LOAD)):
        with rig.Server(options, folder) as server:
            server.wait_for_pool()
            first, last, own, disk, punts = watch(server, device, words, seconds)
            numbers = range(first["shards"][0]["segment_number"], last["shards"][0]["segment_number"])
            borders = extent_borders(path for path in server.data.glob("shard-00/????-??-??/data*") if int(path.name[4:]) in numbers)
        before, after = first["shards"][0], last["shards"][0]
        batches = after["appended_batches"] - before["appended_batches"]
        segments = after["segment_number"] - before["segment_number"]
        allocated = max(allocations(last) - allocations(first) - own, 0)
        frames = sum(core["coroutine_frames_allocated"] for core in last["cores"])
        frames -= sum(core["coroutine_frames_allocated"] for core in first["cores"])
        appending = after["append_allocations"] - before["append_allocations"] if "append_allocations" in after else None
        commits = rounds(after) - rounds(before)
        flushes = disk["flushes"] / commits if disk and commits else None
        row = {"scenario": "counters", "load": name, "seconds": seconds, "batches": batches, "segments": segments,
               "heap_allocations": allocated, "of_one_look": own, "coroutine_frames_allocated": frames, "rounds": commits,
               "device": disk, "flushes_per_round": flushes, "punts": punts.counts, "extent_borders": borders,
               "append_allocations": appending}
        results.keep(row)
        rig.say(f"counters, {name}: {batches:,} batches, {segments} segments: {appending} heap allocations while appending, {allocated} in all "
                f"({allocated / max(segments, 1):.0f} a segment), {frames} coroutine frames; {punts.commit_writes()} commit writes punted, "
                f"{borders} extent borders in the segments (all punts: {punts.counts}); "
                f"{'not measured' if flushes is None else round(flushes, 3)} device flushes a round of {commits:,}")
        good &= punts.commit_writes() == 0 and (appending == 0 or (appending is None and allocated == 0))
        good &= flushes is None or flushes <= 1.05
    rig.say(f"counters: {verdict(good)}")
    return good


def space_scenario(folder, options, results):
    """What lies on the disk for what was acknowledged: live bytes, and what the fixed parts take."""
    cases = [("full load", rig.FULL_LOAD, 4, [], 1.12),
             ("1,000 a second", ["--connections", "4", "--rate", "1000", "--batch-records", "1"], 60, ["--segment-bytes", "16MiB"], 3.0),
             ("20 a second", ["--connections", "1", "--rate", "20", "--batch-records", "1"], 60, ["--segment-bytes", "16MiB"], 3.0)]
    good = True
    device = rig.Device(folder)
    for name, words, seconds, serve, target in cases:
        with rig.Server(options, folder, *serve) as server:
            server.wait_for_pool()
            disk = device.read()
            before = server.shard()
            result = rig.run_load(server, *words, seconds=options.seconds or seconds, warmup=0)
            disk = rig.difference(device.read(), disk)
            after = server.shard()
            payload = result["records_acknowledged"] * 200
            live = space.live_bytes(server.data, after)
            server.end()
            stopped = space.stopped_bytes(server.data)
        ratio = live["live"] / payload
        row = {"scenario": "space", "load": name, "payload": payload, "while_serving": live, "after_stop": stopped, "ratio": ratio,
               "ratio_stopped": stopped["live"] / payload, "target": target, "passed": ratio <= target,
               "written_by_server": after["write_bytes"] - before["write_bytes"],
               "zeroed": after["prepared_bytes"] - before["prepared_bytes"], "device": disk}
        results.keep(row)
        good &= ratio <= target
        written = disk["written"] / payload if disk else 0
        rig.say(f"space, {name}: {payload / 1e6:.1f} MB of payload: {ratio:.3f} live bytes a byte (log {live['log'] / payload:.3f}, index "
                f"{live['index'] / payload:.3f}, tail {live['tail'] / payload:.3f}), target <= {target}: {verdict(ratio <= target)}; "
                f"after a stop {row['ratio_stopped']:.3f}; fixed {live['fixed'] / 1e6:.2f} MB; commit writes "
                f"{row['written_by_server'] / payload:.2f}, zeros {row['zeroed'] / payload:.2f}, device {written:.2f} a byte")
    return good


def own_gaps(folder, options, seconds=20):
    """What the machine takes from a thread that only looks at the clock, on the server's CPU, while the other one writes to the disk:
    a turn measured by the clock cannot be shorter. None without bench/millrace-gaps."""
    watcher = pathlib.Path(options.build).resolve() / "bench" / "millrace-gaps"
    if not watcher.exists():
        return None
    file = folder / "gaps.bin"
    writing = subprocess.Popen(["taskset", "-c", str(options.load_cpu), "dd", "if=/dev/zero", f"of={file}", "bs=1M", "count=6000",
                                "oflag=direct"], stderr=subprocess.DEVNULL)
    done = subprocess.run(["taskset", "-c", str(options.server_cpu), str(watcher), str(seconds)], capture_output=True, text=True, check=True)
    writing.kill()
    writing.wait()
    file.unlink(missing_ok=True)
    return json.loads(done.stdout)


def turn(folder, options, results):
    """Half of what full load reaches, for a minute. The server runs on the other CPU than in the other scenarios: where the disk's
    interrupt is, the kernel threads that finish writes take the CPU away in the middle of a turn."""
    options = copy.copy(options)
    options.server_cpu, options.load_cpu = options.load_cpu, options.server_cpu
    seconds = options.seconds or 60
    gaps = own_gaps(folder, options)
    rate = options.rate
    if not rate:
        with rig.Server(options, folder) as server:
            server.wait_for_pool()
            rate = rig.run_load(server, *rig.FULL_LOAD, seconds=2, warmup=0.7)["records_per_s"] / 2
    needed = rate * 200 * seconds * 1.1
    bound = [] if shutil.disk_usage(folder).free > needed + 8 * GB else ["--retain-bytes", "16GiB"]
    with rig.Server(options, folder, *bound) as server:
        server.wait_for_pool()
        before = server.stat()
        load = rig.Load(server, *rig.FULL_LOAD, "--rate", str(int(rate)), seconds=seconds)
        taken = turns.taken_away(server.process.pid, options.server_cpu)
        parts = turns.profile(server, folder, min(seconds, 20), options.turn_us) if options.profile else None
        result = load.result()
        after = server.stat()
        taken = rig.difference(turns.taken_away(server.process.pid, options.server_cpu), taken)
    longest, over, counts = turns.between(before, after)
    segments = after["shards"][0]["segment_number"] - before["shards"][0]["segment_number"]
    good = over == 0
    results.keep({"scenario": "turn", "seconds": seconds, "rate": rate, "serve_words": bound, "longest_turn_us": longest,
                  "turns_over_1_ms": over, "server_cpu": options.server_cpu, "turns_by_length": counts, "segments": segments, "passed": good, "profiled": bool(options.profile),
                  "taken_away": taken, "own_gaps": gaps, "cores": after["cores"], "result": result})
    tail = result["p99_9_us"]
    rig.say(f"turn: {over} of {sum(counts)} turns took more than 1 ms, target 0: {verdict(good)}; none more than {longest:.0f} us, by power "
            f"of two {turns.shown(counts)}; {segments} segments closed in {seconds:.0f} s at "
            f"{rate * 200 / 1e6:.0f} MB/s; commits' p50 {result['p50_us']:.0f} us, p99.9 {tail if tail is None else round(tail)} us, "
            f"max {result['max_us']:.0f} us; {result['unsent_requests']} never sent; its thread was put off its CPU {taken['put_off']} times and "
            f"waited {taken['waited_for_cpu_ms']:.0f} ms for it (CPU {options.server_cpu}), the host took {taken['stolen_ms']} ms of it")
    if gaps:
        rig.say(f"turn: beside it, a thread that only looks at the clock on the same CPU: {gaps['over_1_ms']} gaps of more than 1 ms in "
                f"{gaps['seconds']:.0f} s, the longest {gaps['longest_us']} us")
    if parts:
        turns.show(parts)
    return good


def restart(folder, options, results):
    out = folder / "restart.json"
    environment = {**os.environ, "MILLRACE": str(pathlib.Path(options.build).resolve() / "cli" / "millrace"), "TMPDIR": str(folder),
                   "RESTART_JSON": str(out)}
    script = rig.ROOT / "tests" / "e2e" / "restart_size.py"
    done = subprocess.run([sys.executable, str(script)], env=environment, text=True)
    if not out.exists():
        raise rig.Missing("tests/e2e/restart_size.py did not get to the end")
    results.keep({"scenario": "restart", "passed": done.returncode == 0, **json.loads(out.read_text())})
    return done.returncode == 0


SCENARIOS = {"streams": streams, "spread": spread, "counters": counters, "space": space_scenario, "turn": turn, "restart": restart}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"{', '.join(SCENARIOS)} (all)")
    rig.add_common_options(parser, "measure.jsonl")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, help="instead of the scenario's own")
    parser.add_argument("--rate", type=float, help="turn: records a second (half of what full load reaches)")
    parser.add_argument("--profile", action="store_true", help="turn: find long turns with perf, and print their parts (it disturbs)")
    parser.add_argument("--turn-us", type=float, default=1000, help="turn: from where on a turn is long")
    options = parser.parse_args()
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name}")
    rig.end_cleanly()
    results = rig.Results(options.results, options.commit)
    good = True
    with tempfile.TemporaryDirectory(prefix="measure-", dir=options.scratch) as scratch:
        for name in options.scenarios or SCENARIOS:
            try:
                good &= SCENARIOS[name](pathlib.Path(scratch), options, results)
            except rig.Missing as missing:
                good = False
                results.keep({"scenario": name, "not_measured": str(missing)})
                rig.say(f"{name}: not measured: {missing}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
