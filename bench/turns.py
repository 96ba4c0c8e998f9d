"""Finds the long turns of a server's threads and says what was done in them.

A turn is what a thread computes between two calls of io_uring_enter; perf gives their times, samples of what runs in between, and
when the thread was taken off its CPU. Watching costs a few per cent; the figures that count are measured without it.
"""

import collections
import pathlib
import re
import shutil
import subprocess
import time

import rig

EVENTS = ["-e", "syscalls:sys_enter_io_uring_enter", "-e", "syscalls:sys_exit_io_uring_enter", "-e", "sched:sched_switch",
          "-e", "cpu-clock", "-F", "8000"]
HEAD = re.compile(r"^\s*(.+?)\s+(\d+)\s+([\d.]+):\s+(\S+?):(?:\s|$)")
FRAME = re.compile(r"^\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \(")


def between(before, after):
    """(longest, how many of more than 1 ms, counts by power of two) of the turns between two looks. The longest is exact when it is
    also the longest since the start; else no turn was longer than what is said."""
    counts = [0] * 16
    longest = 0.0
    for first, last in zip(before["cores"], after["cores"]):
        here = [b - a for a, b in zip(first["turns_by_length"], last["turns_by_length"])]
        counts = [a + b for a, b in zip(counts, here)]
        highest = max((power for power, count in enumerate(here) if count), default=0)
        exact = last["longest_turn_us"] > first["longest_turn_us"]
        longest = max(longest, last["longest_turn_us"] if exact else min(2.0 ** highest, last["longest_turn_us"]))
    over = sum(last["long_turns"] - first["long_turns"] for first, last in zip(before["cores"], after["cores"]))
    return longest, over, counts


def taken_away(process, cpu):
    """What others took: how often the process' threads were put off their CPU and how long they waited for it, and what the host took
    of that CPU. A turn is measured by the clock, so these are in it."""
    waited = switches = 0
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        waited += int((task / "schedstat").read_text().split()[1]) / 1e6
        switches += int(re.search(r"nonvoluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text()).group(1))
    stolen = re.search(rf"^cpu{cpu} (.*)$", pathlib.Path("/proc/stat").read_text(), re.M).group(1).split()[7]
    return {"waited_for_cpu_ms": round(waited, 1), "put_off": switches, "stolen_ms": int(stolen) * 10}


def shown(counts):
    return ", ".join(f"<{2 ** power} us: {count}" for power, count in enumerate(counts) if count)


def profile(server, folder, seconds, long_us):
    """[(thread, length in us, off the CPU in us, Counter of call paths)], longest first."""
    if not shutil.which("perf"):
        raise rig.Missing("needs perf")
    time.sleep(2)
    data = folder / "turns.perf"
    # perf stays off the server's CPU: what it does there would look like a long turn.
    done = subprocess.run(["taskset", "-c", str(server.options.load_cpu), "perf", "record", "-q", "-m", "4096", "-g", *EVENTS, "-p", str(server.process.pid), "-o", str(data), "--", "sleep",
                           str(seconds)], capture_output=True, text=True)
    if done.returncode != 0:
        raise rig.Missing(f"perf does not record: {done.stderr.strip()}")
    script = subprocess.Popen(["perf", "script", "-i", str(data), "-F", "comm,tid,time,event,ip,sym,dso,symoff"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    turns = find_long(blocks(script.stdout), long_us)
    script.wait()
    data.unlink()
    return turns


def blocks(lines):
    """(thread, time in us, event, [frames, innermost first])"""
    head, frames = None, []
    for line in lines:
        found = HEAD.match(line)
        if found:
            if head:
                yield (*head, frames)
            head, frames = (int(found.group(2)), float(found.group(3)) * 1e6, found.group(4)), []
        else:
            frame = FRAME.match(line)
            if frame:
                frames.append(frame.group(1))
    if head:
        yield (*head, frames)


def short(frames, most=7):
    names = [re.sub(r"\(.*|<.*>", "", name).replace("millrace::", "") for name in frames]
    return " < ".join(names[:most])


def find_long(events, long_us):
    open_turns, found = {}, []
    for thread, at, event, frames in events:
        kind = event.split(":")[-1]
        turn = open_turns.get(thread)
        if kind == "sys_exit_io_uring_enter":
            open_turns[thread] = {"begin": at, "paths": collections.Counter(), "off": 0.0, "gone": None}
        elif turn is None:
            continue
        elif kind == "sys_enter_io_uring_enter":
            if at - turn["begin"] >= long_us:
                found.append((thread, at - turn["begin"], turn["off"], turn["paths"]))
            del open_turns[thread]
        else:
            if turn["gone"] is not None:
                turn["off"] += at - turn["gone"]
                turn["gone"] = None
            turn["paths"][short(frames)] += 1
            if kind == "sched_switch":
                turn["gone"] = at
    return sorted(found, key=lambda turn: -turn[1])


def show(turns, most=5):
    rig.say(f"  {len(turns)} long turns seen")
    for thread, length, off, paths in turns[:most]:
        rig.say(f"  {length:.0f} us on thread {thread}, off its CPU for about {off:.0f} us; samples:")
        for path, count in paths.most_common(8):
            rig.say(f"    {count:4d}  {path}")
