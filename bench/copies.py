#!/usr/bin/env python3
"""What a follower costs and how close it keeps: catch-up against the wire and the disk, commits beside it, lag when caught up.

Leader, follower and load share this machine's cores and one disk, so every figure is of that and no more. Every line that was measured
stays in bench/results/copies.jsonl.

    bench/copies.py --build build-release                      everything
    bench/copies.py --build build-release catch-up --gb 4
    bench/copies.py --build build-release foreground --pairs 3
    bench/copies.py --report

scenarios:
  catch-up     a fresh follower of a leader that holds --gb GB: bytes/s until it is level, beside this machine's loopback and direct read+write
  foreground   commit p99 of a leader at half load: alone, with a follower that is level, with one that catches up
  lag          from leader-durable to follower-durable at half load, seen by two readers on one clock, beside a commit
"""

import argparse
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import rig

CHUNK = 1 << 20


def loopback_rate(seconds=1.0):
    """Bytes/s over one TCP connection to ourselves, sender and receiver in threads that spend their time in the system."""
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    got = 0
    end = time.monotonic() + seconds

    def send():
        block = bytes(CHUNK)
        while time.monotonic() < end:
            sender.sendall(block)
        sender.close()

    thread = threading.Thread(target=send)
    begun = time.monotonic()
    thread.start()
    into = bytearray(CHUNK)
    while True:
        count = receiver.recv_into(into)
        if count == 0:
            break
        got += count
    thread.join()
    return got / (time.monotonic() - begun)


def copy_rate(source, folder, most=4 * rig.GB):
    """Bytes/s of reading segments directly and writing them directly and durably elsewhere: what a copy cannot beat here."""
    done = 0
    begun = time.monotonic()
    for path in sorted(source.glob("shard-00/20*/data*")):
        target = folder / "raw"
        subprocess.run(["dd", f"if={path}", f"of={target}", "bs=4M", "iflag=direct", "oflag=direct", "conv=fsync", "status=none"], check=True)
        done += path.stat().st_size
        target.unlink()
        if done >= most:
            break
    return done / (time.monotonic() - begun)


class Follower(rig.Server):
    """A follower of `leader`, on the load's CPU."""

    def __init__(self, options, folder, leader, keep=False):
        folder = pathlib.Path(folder) / "follower"
        folder.mkdir(exist_ok=True)
        mine = argparse.Namespace(**{**vars(options), "server_cpu": options.load_cpu})
        super().__init__(mine, folder, "--follow", leader.address, keep=keep)
        self.leader = leader

    def level(self):
        here = self.shard()
        there = self.leader.shard()["watermarks"]
        return here["following"]["connected"] and here["watermarks"]["durable"] >= there["durable"]

    def wait_until_level(self, seconds=600):
        end = time.monotonic() + seconds
        while not self.level():
            if time.monotonic() > end:
                sys.exit("the follower does not get level")
            time.sleep(0.02)


def fill(server, gigabytes):
    """Records of --gb GB; seconds it took."""
    begun = time.monotonic()
    rate = None
    stored = 0
    while stored < gigabytes * rig.GB:
        result = rig.run_load(server, *rig.FULL_LOAD, "--stream", f"history{stored}", seconds=1, warmup=0)
        stored = server.shard()["log_bytes"]
        rate = result["bytes_per_s"]
    return time.monotonic() - begun, rate


def catch_up(options, folder):
    rig.need_disk(folder, (3 * options.gb + 2) * rig.GB, f"catch-up of {options.gb} GB")
    with rig.Server(options, folder) as leader:
        fill(leader, options.gb)
        wire = loopback_rate()
        raw = copy_rate(leader.data, pathlib.Path(folder))
        held = leader.shard()["log_bytes"]
        with Follower(options, folder, leader) as follower:
            begun = time.monotonic()
            follower.wait_until_level()
            seconds = time.monotonic() - begun + follower.serving_after
            expect_equal(follower, leader)
    rate = held / seconds
    row = {"scenario": "catch-up", "bytes": held, "seconds": seconds, "bytes_per_s": rate, "loopback_bytes_per_s": wire,
           "direct_copy_bytes_per_s": raw, "ratio": rate / min(wire, raw)}
    rig.say(f"catch-up: {held / rig.GB:.1f} GB in {seconds:.1f} s = {rate / 1e6:.0f} MB/s; loopback {wire / 1e6:.0f}, direct read+write "
            f"{raw / 1e6:.0f} MB/s: {row['ratio']:.2f} of the lower")
    return [row]


def expect_equal(follower, leader):
    """What was measured was a copy."""
    done = subprocess.run([str(follower.binary), "verify", "--data", str(follower.data), "--against", leader.address], capture_output=True)
    if done.returncode != 0:
        sys.exit(f"the copy is not equal: {done.stdout} {done.stderr}")


def half_rate(options, folder):
    """Records/s that are half of what a leader alone takes, in 64 KiB requests."""
    with rig.Server(options, folder) as leader:
        leader.wait_for_pool()
        return rig.run_load(leader, *rig.FULL_LOAD, seconds=2)["records_per_s"] / 2


def at_half(leader, rate, seconds):
    return rig.run_load(leader, *rig.FULL_LOAD, "--rate", f"{rate:.0f}", "--stream", f"half{time.monotonic_ns()}", seconds=seconds)


def foreground(options, folder):
    rate = half_rate(options, folder)
    rows = []
    for pair in range(options.pairs):
        row = {"scenario": "foreground", "pair": pair, "records_per_s_offered": rate}
        with rig.Server(options, folder) as leader:
            fill(leader, options.gb)
            leader.wait_for_pool()
            row["alone"] = at_half(leader, rate, options.seconds)
            with Follower(options, folder, leader) as follower:
                row["catching_up"] = at_half(leader, rate, options.seconds)
                row["level_at_the_end"] = follower.level()
                follower.wait_until_level()
                row["level"] = at_half(leader, rate, options.seconds)
        rows.append(row)
        p99 = {name: row[name]["p99_us"] for name in ("alone", "catching_up", "level")}
        if None in p99.values():
            sys.exit("too few answers for a p99: give more --seconds")
        rig.say(f"foreground {pair + 1}/{options.pairs}: commit p99 alone {p99['alone']:.0f} us, while one catches up {p99['catching_up']:.0f}"
                f" ({p99['catching_up'] / p99['alone']:.2f}), with one that is level {p99['level']:.0f} ({p99['level'] / p99['alone']:.2f})")
    return rows


class Arrivals(threading.Thread):
    """When each record of a stream reached a reader of a server."""

    def __init__(self, server, stream):
        super().__init__()
        self.process = subprocess.Popen([str(server.binary), "read", "--server", server.address, "--stream", stream, "--follow"],
                                        stdout=subprocess.PIPE)
        self.at = {}
        self.start()

    def run(self):
        for line in self.process.stdout:
            self.at[int(line)] = time.monotonic()

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.join()


def percentile(values, of):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * of))]


def lag(options, folder):
    rate = half_rate(options, folder)
    with rig.Server(options, folder) as leader, Follower(options, folder, leader) as follower:
        source = subprocess.Popen([str(leader.binary), "append", "--server", leader.address, "--stream", "probe", "--linger", "0"],
                                  stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        source.stdin.write(b"0\n")
        source.stdin.flush()
        time.sleep(0.5)
        follower.wait_until_level()
        readers = [Arrivals(server, "probe") for server in (leader, follower)]
        load = rig.Load(leader, *rig.FULL_LOAD, "--rate", f"{rate:.0f}", seconds=options.seconds)
        end = time.monotonic() + options.seconds + 1
        number, sent = 1, {}
        while time.monotonic() < end:
            sent[number] = time.monotonic()
            source.stdin.write(b"%d\n" % number)
            source.stdin.flush()
            number += 1
            time.sleep(0.003)
        result = load.result()
        source.stdin.close()
        source.wait(30)
        end = time.monotonic() + 30
        while time.monotonic() < end and any(len(reader.at) <= len(sent) for reader in readers):
            time.sleep(0.02)
        for reader in readers:
            reader.end()
    both = [n for n in sent if all(n in reader.at for reader in readers)]
    if len(both) < 0.99 * len(sent):
        sys.exit(f"{len(both)} of {len(sent)} probes reached both readers")
    lags = [readers[1].at[n] - readers[0].at[n] for n in both]
    commits = [readers[0].at[n] - sent[n] for n in both]
    row = {"scenario": "lag", "probes": len(both), "load": result,
           **{f"{name}_{label}_us": percentile(values, of) * 1e6 for name, values in (("lag", lags), ("seen_at_leader", commits))
              for label, of in (("p50", 0.5), ("p99", 0.99))}}
    rig.say(f"lag: {len(both)} probes at half load: follower behind leader p50 {row['lag_p50_us']:.0f} us, p99 {row['lag_p99_us']:.0f} us; a reader "
            f"of the leader sees a record p50 {row['seen_at_leader_p50_us']:.0f} us, p99 {row['seen_at_leader_p99_us']:.0f} us after it was sent")
    return [row]


SCENARIOS = {"catch-up": catch_up, "foreground": foreground, "lag": lag}


def report(results):
    for scenario in SCENARIOS:
        rows = results.rows(commit=results.commit, scenario=scenario)
        if not rows:
            continue
        if scenario == "catch-up":
            figures = {"of the lower of loopback and direct copy": [row["ratio"] for row in rows], "MB/s": [row["bytes_per_s"] / 1e6 for row in rows]}
        elif scenario == "foreground":
            figures = {f"commit p99 {name} / alone": [row[name]["p99_us"] / row["alone"]["p99_us"] for row in rows] for name in ("catching_up", "level")}
        else:
            figures = {name: [row[name] for row in rows] for name in ("lag_p50_us", "lag_p99_us", "seen_at_leader_p50_us")}
        for name, values in figures.items():
            low, middle, high = rig.quartiles(values)
            rig.say(f"{scenario}: {name}: {middle:.2f} [{low:.2f}..{high:.2f}], {len(values)} runs{'' if len(values) >= 9 else ', 9 are asked for'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="catch-up, foreground, lag (all)")
    rig.add_common_options(parser, "copies.jsonl")
    parser.add_argument("--gb", type=float, default=4, help="history of the leader")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--report", action="store_true", help="judge what was measured, measure nothing")
    options = parser.parse_args()
    rig.end_cleanly()
    results = rig.Results(options.results, options.commit)
    for name in [] if options.report else options.scenarios or SCENARIOS:
        if name not in SCENARIOS:
            parser.error(f"no scenario named {name}")
        for _ in range(1 if name == "foreground" else options.pairs):
            with tempfile.TemporaryDirectory(prefix="copies-", dir=options.scratch) as folder:
                try:
                    for row in SCENARIOS[name](options, folder):
                        results.keep(row)
                except rig.Missing as missing:
                    rig.say(f"{name}: not measured: {missing}")
    report(results)


if __name__ == "__main__":
    main()
