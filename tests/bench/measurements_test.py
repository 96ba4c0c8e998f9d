#!/usr/bin/env python3
"""The measurements' own arithmetic: what they count, and what they refuse to say."""

import pathlib
import sys
import tempfile
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))

import compare
import kernel_counts
import rig
import space
import turns


def live_bytes_are_counted_in_the_files(folder):
    shard = folder / "shard-00"
    (shard / "2026-11-21").mkdir(parents=True)
    (shard / "pool").mkdir()
    sizes = {"data000000": 1 << 20, "data000001": 3 << 20, "data000002": 1 << 20}
    for name, size in sizes.items():
        (shard / "2026-11-21" / name).write_bytes(b"\0" * size)
    with open(shard / "2026-11-21" / "data000000", "r+b") as closed:
        closed.write(b"x")
    with open(shard / "2026-11-21" / "data000001", "r+b") as opened:
        opened.seek((1 << 20) + 5000)
        opened.write(b"end")
    (shard / "2026-11-21" / "index").write_bytes(b"i" * 700)
    (shard / "tail").write_bytes(b"t" * 4096)
    used = (1 << 20) + 8192
    got = space.live_bytes(folder, {"segment_used": used + 300})
    expected = {"log": (1 << 20) + used, "index": 700, "tail": 300, "fixed": 4096, "pool": 1 << 20, "segments": 2}
    assert {key: got[key] for key in expected} == expected, got
    assert got["live"] == (1 << 20) + used + 1000, got
    assert space.stopped_bytes(folder)["tail"] == 0


def percentiles_of_few_samples_are_not_given(folder):
    said = ("N=1 depth=1 |   300.0 MB/s {:9.0f} frames/s    23040 rec/s p50=200 p99=300 p999=900 max=1000 us | srv cpu 40% cli cpu 1%")

    def run(frames):
        binary = folder / "yardstick"
        binary.write_text(f"#!/bin/sh\necho '{said.format(frames)}'\n")
        binary.chmod(0o755)
        options = types.SimpleNamespace(server_cpu=1, load_cpu=0)
        return compare.run_yardstick(binary, folder, compare.SCENARIOS["latency"], 10, options)
    few, many = run(900), run(10_000)
    assert (few["p50_us"], few["p99_us"], few["p99_9_us"]) == (200, None, None), few
    assert (many["p99_us"], many["p99_9_us"]) == (300, 900), many


def marked_and_short_runs_are_not_judged(folder):
    results = rig.Results(folder / "compare.jsonl")
    scenario = compare.SCENARIOS["sustained"]
    yardstick = {"bytes_per_s": 1000.0, "server_cpu_s_per_gb": 0.2}

    def keep(bytes_per_s, seconds, **more):
        results.keep({"scenario": "sustained", "pair": 0, "seconds": seconds, "yardstick": yardstick,
                      "millrace": {"bytes_per_s": bytes_per_s, "server_cpu_s_per_gb": 0.2, **more}})
    keep(900.0, scenario.seconds / 10)
    keep(950.0, scenario.seconds, marked="too few segments")
    assert compare.summarize("sustained", results, results.commit) is None
    for _ in range(compare.PAIRS_MIN - 1):
        keep(600.0, scenario.seconds)
    assert compare.summarize("sustained", results, results.commit) is None, "too few pairs"
    keep(600.0, scenario.seconds)
    assert compare.summarize("sustained", results, results.commit) is False
    for _ in range(compare.PAIRS_MIN + 1):
        keep(720.0, scenario.seconds)
    assert compare.summarize("sustained", results, results.commit) is True
    assert compare.summarize("sustained", results, "another") is None


def a_long_turn_is_found_with_its_parts(folder):
    del folder
    text = """millrace  7 100.000000: syscalls:sys_exit_io_uring_enter:
            1000 io_uring_enter2+0x1 (/lib)
millrace  7 100.000300:   cpu-clock:
            1000 XXH3_128bits+0x12 (/bin/millrace)
            1001 millrace::Log::append(millrace::BatchView const&)+0x3 (/bin/millrace)
millrace  7 100.000500: sched:sched_switch:
            1000 __schedule+0x1 ([kernel])
millrace  7 100.001400:   cpu-clock:
            1000 XXH3_128bits+0x12 (/bin/millrace)
millrace  7 100.001500: syscalls:sys_enter_io_uring_enter:
            1000 io_uring_enter2+0x1 (/lib)
millrace  7 100.002000: syscalls:sys_exit_io_uring_enter:
millrace  7 100.002100: syscalls:sys_enter_io_uring_enter:
"""
    found = turns.find_long(turns.blocks(text.splitlines()), 1000)
    assert len(found) == 1, found
    thread, length, off, paths = found[0]
    assert thread == 7 and abs(length - 1500) < 1 and abs(off - 900) < 1, found
    assert paths["XXH3_128bits < Log::append"] == 1, paths


def punts_are_counted_by_thread_and_operation(folder):
    del folder
    text = """# tracer: nop
        millrace-71  [001] ..... 1.0: io_uring_queue_async_work: ring 0, request 1, user_data 0x0, opcode FSYNC, flags 0x0, normal queue, work 2
        millrace-71  [001] ..... 1.1: io_uring_queue_async_work: ring 0, request 1, user_data 0x0, opcode WRITE_FIXED, flags 0x0, hashed queue, work 2
        other-99  [001] ..... 1.2: io_uring_queue_async_work: ring 0, request 1, user_data 0x0, opcode WRITE, flags 0x0, hashed queue, work 2
"""
    assert kernel_counts.count(text, {71}) == {"FSYNC": 1, "WRITE_FIXED": 1}


def main():
    failed = 0
    for case in (live_bytes_are_counted_in_the_files, percentiles_of_few_samples_are_not_given, marked_and_short_runs_are_not_judged,
                 a_long_turn_is_found_with_its_parts, punts_are_counted_by_thread_and_operation):
        print(f"[ RUN      ] measurements.{case.__name__}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                case(pathlib.Path(folder))
                status = "      OK"
            except AssertionError as error:
                failed += 1
                status = " FAILED "
                print(repr(error))
        print(f"[ {status} ] measurements.{case.__name__} (0 ms)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
