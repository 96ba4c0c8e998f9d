#!/usr/bin/env python3
"""The style tests: each rule over the tree, and each rule against violations planted for it, so that no rule is dead.

    run.py [--build FOLDER]     FOLDER is a configured build; with it, headers are compiled alone too

Prints one line a test in GoogleTest's form, violations before it; exit 1 when one fails.
"""

import argparse
import os
import sys
import tempfile

import coroutines
import counting
import headers
import layers
import names
import seam
import shape
import tree
import words

MODULES = [layers, seam, shape, words, coroutines, names]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def report(name, problems):
    for problem in problems:
        print(problem)
    print(f"{'[  FAILED  ]' if problems else '[       OK ]'} style.{name}", flush=True)
    return not problems


def self_test(module, rule):
    """What is wrong with the rule itself: a planted violation it missed, or a clean file it complained about."""
    planted = module.PLANTED.get(rule.__name__, {})
    if not planted.get("bad") or not planted.get("good"):
        return [f"{rule.__name__}: no planted violation; add one to PLANTED"]
    problems = [f"missed a planted violation: {files}" for files in planted["bad"] if not list(rule(files))]
    for files in planted["good"]:
        problems += [f"complained about a clean file: {found} in {files}" for found in rule(files)]
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build")
    arguments = parser.parse_args()
    files = tree.load(ROOT)
    passed = [report("counting", list(counting.problems()))]
    for module in MODULES:
        for rule in module.RULES:
            passed.append(report(rule.__name__ + "_is_alive", self_test(module, rule)))
            passed.append(report(rule.__name__, list(rule(files))))
    if arguments.build:
        with tempfile.TemporaryDirectory() as folder:
            alive = headers.planted_is_found(folder)
        passed.append(report("headers_alone_is_alive", [] if alive else ["a header without its include was not found"]))
        passed.append(report("headers_alone", list(headers.check(ROOT, files, os.path.abspath(arguments.build)))))
    print(f"{passed.count(True)} passed, {passed.count(False)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
