#!/usr/bin/env python3
"""A day ends under a real server, seconds from now: --day-offset puts midnight at the next full minute."""

import datetime
import json
import os
import subprocess
import sys
import threading
import time

from harness import BINARY, expect, lines, main, run

DAY = 86_400


def coming_midnight(least):
    """The offset under which a day ends at the next full minute that is at least so many seconds away, and that minute."""
    now = time.time()
    minute = int(now // 60 + 1) * 60
    if minute - now < least:
        minute += 60
    offset = -minute % DAY
    if offset > DAY // 2:
        offset -= DAY
    sign = "-" if offset < 0 else "+"
    return f"{sign}{abs(offset) // 3600:02}:{abs(offset) // 60 % 60:02}", offset, minute


def day_name(seconds, offset):
    return datetime.datetime.fromtimestamp(seconds + offset, datetime.timezone.utc).date().isoformat()


def stat(*source):
    return json.loads(run("stat", *source, "--json").stdout)


class Producer:
    """An append that gets a line every few milliseconds, until it is told to end."""

    def __init__(self, server, stream):
        command = [BINARY, "append", "--server", server.address, "--stream", stream, "--quiet"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.over = threading.Event()
        self.sent = []
        self.feeder = threading.Thread(target=self.feed)
        self.feeder.start()

    def feed(self):
        while not self.over.is_set():
            line = lines(1, first=len(self.sent))
            self.process.stdin.write(line)
            self.process.stdin.flush()
            self.sent.append(line)
            time.sleep(0.003)
        self.process.stdin.close()

    def end(self):
        self.over.set()
        self.feeder.join()
        expect(self.process.wait(timeout=30) == 0, f"append: {self.process.stderr.read()}")
        self.process.stderr.close()


def records(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def expect_both(server, *flags):
    """What the server and its directory say, which is the same."""
    answers = []
    for source in (("--server", server.address), ("--data", server.data)):
        done = run("read", *source, *flags, check=False)
        answers.append((done.returncode, done.stdout, done.stderr))
    expect(answers[0] == answers[1], f"read {' '.join(flags)}: server {answers[0][0], answers[0][2]}, directory {answers[1][0], answers[1][2]}")
    return answers[0]


def live_through_midnight(case):
    """A server and a producer from some seconds before a day's end to some behind it; the days' names and what was sent."""
    text_offset, offset, midnight = coming_midnight(8)
    server = case.server("--day-offset", text_offset)
    server.append("before", b"only of the first day\n")
    producer = Producer(server, "crossing")
    while time.time() < midnight + 2:
        time.sleep(0.05)
    producer.end()
    days = day_name(midnight - 1, offset), day_name(midnight, offset)
    finish = os.path.join(server.data, "shard-00", days[0], "finish")
    end = time.monotonic() + 20
    while not os.path.exists(finish):
        expect(time.monotonic() < end, f"no {finish}: {os.listdir(os.path.dirname(finish))}")
        time.sleep(0.1)
    return server, text_offset, days, producer.sent


def expect_days(server, days, sent):
    """The border as every reader sees it; gives the offset of the second day's first record."""
    all_of_it = records(server.read("crossing", "--format", "json"))
    expect([record["payload"] for record in all_of_it] == [line[:-1].decode() for line in sent], "records were lost, doubled or exchanged at the border")
    first = [record for record in all_of_it if record["day"] == days[0]]
    second = [record for record in all_of_it if record["day"] == days[1]]
    expect(first and second and first + second == all_of_it, f"days are {sorted({record['day'] for record in all_of_it})}, not {days}")
    for part in (first, second):
        expect([record["id"] for record in part] == list(range(len(part))), "ids do not count from 0 within the day")
    border = second[0]["offset"]
    places = {
        ("--from", f"day:{days[0]}", "--until", f"day:{days[1]}"): sent[:border],
        ("--from", f"day:{days[1]}"): sent[border:],
        ("--until", f"day:{days[1]}"): sent[:border],
        ("--from", f"day:{days[0]}:5", "--count", "1"): sent[5:6],
        ("--from", f"day:{days[1]}:7", "--count", "1"): sent[border + 7:border + 8],
        ("--from", f"day:{days[0]}:{border - 2}", "--until", f"day:{days[1]}:3"): sent[border - 2:border + 3],
        ("--from", f"offset:{border - 3}", "--until", f"day:{days[1]}:2"): sent[border - 3:border + 2],
        ("--from", f"time:{second[0]['time']}", "--count", "1"): sent[border:border + 1],
    }
    for flags, wanted in places.items():
        status, got, said = expect_both(server, "--stream", "crossing", *flags)
        expect((status, got, said) == (0, b"".join(wanted), b""), f"{' '.join(flags)}: exit {status}, {got[:60]} … of {len(got)} bytes, {said}")
    return border


def a_day_ends(case):
    server, text_offset, days, sent = live_through_midnight(case)
    border = expect_days(server, days, sent)
    for source in (("--server", server.address), ("--data", server.data)):
        shard = stat(*source)["shards"][0]
        expect((shard["first_day"], shard["day"], shard["days"]) == (*days, 2), f"stat {source[0]}: {shard}")
    report = json.loads(run("verify", "--data", server.data, "--json").stdout)
    expect((report["damage_count"], report["days"], report["days_finished"]) == (0, 2, 1), f"verify: {report}")
    server.stop()

    other = case.server("--day-offset", "+13:37", wait=False)
    expect(other.wait_for_end() == 1 and f"cuts its days at {text_offset} and --day-offset says +13:37" in other.said, other.said)

    server = case.server("--retain-days", "1")
    end = time.monotonic() + 30
    while stat("--server", server.address)["shards"][0]["days"] != 1:
        expect(time.monotonic() < end, f"the first day stays: {stat('--server', server.address)['shards'][0]}")
        time.sleep(0.1)
    expect(not os.path.exists(os.path.join(server.data, "shard-00", days[0])), "the first day's directory stays")
    rest = b"".join(sent[border:])
    status, got, said = expect_both(server, "--stream", "crossing", "--from", "offset:0")
    gone = f"OUT_OF_RANGE stream=crossing offsets=0..{border - 1}: these records are no longer kept\n".encode()
    expect((status, got, said) == (1, rest, gone), f"--from offset:0: exit {status}, {len(got)} bytes, {said}")
    for flags in (("--from", f"day:{days[0]}"), ("--from", f"day:{days[1]}"), ()):
        status, got, said = expect_both(server, "--stream", "crossing", *flags)
        expect((status, got, said) == (0, rest, b""), f"{flags}: exit {status}, {len(got)} bytes, {said}")
    status, got, said = expect_both(server, "--stream", "crossing", "--from", f"day:{days[0]}", "--until", f"day:{days[1]}")
    expect((status, got, said) == (0, b"", b""), f"of the day that is gone: exit {status}, {len(got)} bytes, {said}")
    status, got, said = expect_both(server, "--stream", "before")
    expect((status, got) == (0, b""), f"a stream of that day alone: exit {status}, {got}, {said}")
    server.append("before", b"and of the second\n")
    expect(records(server.read("before", "--format", "json"))[0]["offset"] == 1, "offsets begin anew")
    server.stop()
    expect(run("verify", "--data", server.data).stdout.startswith(b"sound"), "verify is not content")
    return f"{border} records before midnight, {len(sent) - border} behind it, {text_offset}"


if __name__ == "__main__":
    sys.exit(main("days", [("a_day_ends", a_day_ends)]))
