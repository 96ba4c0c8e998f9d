#!/usr/bin/env python3
"""Counts test cases for ./check.

    tally.py meson PART TESTLOG.json CASES    append the cases of a `meson test` run to CASES
    tally.py text PART OUTPUT CASES           the same from the plain output of one program in GoogleTest's form
    tally.py case PART NAME STATUS CASES [REASON]
    tally.py report CASES                     every skip and failure by name, then `N passed, N failed, N skipped`

CASES has a line a case: status, part, name, reason, divided by tabs. A test that prints GoogleTest's lines counts by its
cases, any other counts as one. A skip must say `needs MEANS: …` (scripts/means.py); where the means exist, it failed.
"""

import json
import re
import sys

import means

RUN = re.compile(r"^\[ RUN +\] ([\w./:<>, -]+)$")
CASE = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] ([\w./:<>, -]+?)(?:, where .*)?(?: \(\d+ ms\))?$")
TELLING = re.compile(r"runtime error:|ERROR: |SUMMARY: |WARNING: ThreadSanitizer|assert|terminate called")
GTEST = re.compile(r"^\[[ =-]")
COUNT = re.compile(r"^\d+ tests?")


def cases_of(text):
    """name -> (status, reason) from GoogleTest's lines; the reason of a skip is what was printed before it."""
    cases, printed = {}, []
    for line in text.splitlines():
        match = CASE.match(line.strip())
        if not match or COUNT.match(match.group(2)):
            if line.startswith("[ RUN"):
                printed = []
            elif line.strip() and not re.match(r"^\S+:\d+: Skipped$", line.strip()):
                printed.append(line.strip())
            continue
        status, name = match.groups()
        if name not in cases:
            cases[name] = (status, " ".join(printed[-3:]) if status == "SKIPPED" else "")
        printed = []
    return cases


def unfinished(text, cases):
    """The case that ran when its program ended, else a sign that none did."""
    begun = [match.group(1) for match in map(RUN.match, map(str.strip, text.splitlines())) if match]
    return next((case for case in reversed(begun) if case not in cases), "outside of any case")


def end_of(test):
    """Why a program without a failed case failed: its result and what a sanitizer or an assertion said, else its last words."""
    lines = [line.strip() for key in ("stdout", "stderr") for line in (test.get(key) or "").splitlines()
             if line.strip() and not GTEST.match(line.strip())]
    told = [line for line in lines if TELLING.search(line)]
    return " | ".join([f"{test['result']}, exit {test.get('returncode')}"] + [line[:160] for line in (told or lines)[-3:]])


def failures_of(test):
    """case -> the lines printed by a case that failed, its end; for the summary of a run."""
    printed, out = [], {}
    for line in (test.get("stdout") or "").splitlines():
        line = line.strip()
        match = CASE.match(line)
        if line.startswith("[ RUN"):
            printed = []
        elif match and match.group(1) == "FAILED":
            out.setdefault(match.group(2), " | ".join(piece[:160] for piece in printed[-4:]))
        elif line:
            printed.append(line)
    return out


def write(path, rows):
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            file.write("\t".join(re.sub(r"[\t\n]", " ", field) for field in row) + "\n")


def rows_of_test(part, test):
    """The rows of one entry of meson's testlog.json."""
    name, result = test["name"], test["result"]
    output = test.get("stdout") or ""
    cases = cases_of(output)
    failures = failures_of(test)
    rows = [(status.lower(), part, f"{name}: {case}", reason or failures.get(case, ""))
            for case, (status, reason) in cases.items()]
    good = result in ("OK", "EXPECTEDFAIL")
    if result == "SKIP" and not rows:
        rows.append(("skipped", part, name, ((test.get("stdout") or "").strip().splitlines() or [""])[-1]))
    elif not good and result != "SKIP" and not any(row[0] == "failed" for row in rows):
        rows.append(("failed", part, f"{name}: {unfinished(output, cases)}", end_of(test)))
    elif not rows:
        rows.append(("ok", part, name, ""))
    return rows


def meson(part, log, path):
    rows = []
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip():
                rows += rows_of_test(part, json.loads(line))
    write(path, rows)


def text(part, output, path):
    with open(output, encoding="utf-8", errors="replace") as file:
        cases = cases_of(file.read())
    write(path, [(status.lower(), part, name, reason) for name, (status, reason) in cases.items()])


def report(path):
    passed = failed = skipped = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            status, part, name, reason = line.rstrip("\n").split("\t")
            if status == "ok":
                passed += 1
                continue
            if status == "skipped":
                excuse = means.missing(reason)
                if excuse is True:
                    skipped += 1
                    print(f"skipped: {part}: {name}: {reason}")
                    continue
                reason = f"skipped without need ({excuse}): {reason}"
            failed += 1
            print(f"FAILED: {part}: {name}{': ' + reason if reason else ''}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


def main(arguments):
    verb, rest = arguments[0], arguments[1:]
    if verb == "meson":
        return meson(*rest)
    if verb == "text":
        return text(*rest)
    if verb == "case":
        part, name, status, path, *reason = rest
        return write(path, [(status, part, name, " ".join(reason))])
    return report(*rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
