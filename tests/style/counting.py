"""./check counts test cases with scripts/tally.py; a miscount would hide failures, so the counting is tested too."""

import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))
import means  # noqa: E402
import tally  # noqa: E402

GTEST = """[==========] Running 3 tests from 1 test suite.
[ RUN      ] Disk.keeps
[       OK ] Disk.keeps (3 ms)
[ RUN      ] Disk.mounts
tests/a.cpp:7: Skipped
needs loop_mount: mkfs.ext4 is not there
[  SKIPPED ] Disk.mounts (0 ms)
[ RUN      ] Disk/Sizes.tears/4
tests/a.cpp:9: Failure
[  FAILED  ] Disk/Sizes.tears/4, where GetParam() = 12 (0 ms)
[  PASSED  ] 1 test.
[  SKIPPED ] 1 test, listed below:
[  SKIPPED ] Disk.mounts
[  FAILED  ] 1 test, listed below:
[  FAILED  ] Disk/Sizes.tears/4, where GetParam() = 12
"""


def rows(result, stdout="", **more):
    return [(row[0], row[2], row[3]) for row in tally.rows_of_test("unit", {"name": "t", "result": result, "stdout": stdout, **more})]


def problems():
    """What the counting gets wrong, one sentence each."""
    expected = [
        (rows("FAIL", GTEST), [("ok", "t: Disk.keeps", ""), ("skipped", "t: Disk.mounts", "needs loop_mount: mkfs.ext4 is not there"),
                               ("failed", "t: Disk/Sizes.tears/4", "tests/a.cpp:9: Failure")]),
        (rows("OK"), [("ok", "t", "")]),
        (rows("SKIP", "needs root: not root\n"), [("skipped", "t", "needs root: not root")]),
        (rows("TIMEOUT", returncode=-9), [("failed", "t: outside of any case", "TIMEOUT, exit -9")]),
        # A crash in the middle: what had passed counts, and the crash fails.
        (rows("FAIL", "[ RUN      ] A.a\n[       OK ] A.a (0 ms)\n[ RUN      ] A.b\n", returncode=-6),
         [("ok", "t: A.a", ""), ("failed", "t: A.b", "FAIL, exit -6")]),
        # A sanitizer's finding is told with the case it was found in.
        (rows("FAIL", "[ RUN      ] A.b\n", stderr="a.cpp:3: runtime error: null\n    #0 0x1 in f\n", returncode=1),
         [("failed", "t: A.b", "FAIL, exit 1 | a.cpp:3: runtime error: null")]),
    ]
    for found, wanted in expected:
        if found != wanted:
            yield f"counted {found} instead of {wanted}"
    yield from reports()


def reports():
    """A skip is believed only when its means are really missing."""
    kept = dict(means.PROBES), dict(means._seen)
    means._seen.clear()
    means.PROBES.update(root=lambda: False, io_uring=lambda: True)
    cases = [(["ok\tu\ta\t"], 0), (["ok\tu\ta\t", "skipped\tu\tb\tneeds root: no"], 0), (["failed\tu\ta\t"], 1), ([], 1),
             (["ok\tu\ta\t", "skipped\tu\tb\tneeds io_uring: no"], 1), (["ok\tu\ta\t", "skipped\tu\tb\tnot today"], 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cases")
        for lines, status in cases:
            with open(path, "w", encoding="utf-8") as file:
                file.write("".join(line + "\n" for line in lines))
            sys.stdout.flush()
            silenced, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")
            found = tally.report(path)
            sys.stdout.close()
            sys.stdout = silenced
            if found != status:
                yield f"a report of {lines} ended with {found}, not {status}"
        tally.meson("unit", write_log(folder), path)
        with open(path, encoding="utf-8") as file:
            if file.read() != "ok\tunit\ta: X.y\t\n":
                yield "a meson log was not counted"
    means.PROBES.update(kept[0])
    means._seen.clear()


def write_log(folder):
    path = os.path.join(folder, "testlog.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"name": "a", "result": "OK", "stdout": "[       OK ] X.y (1 ms)\n"}) + "\n")
    open(os.path.join(folder, "cases"), "w", encoding="utf-8").close()
    return path
