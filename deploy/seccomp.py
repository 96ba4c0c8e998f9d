#!/usr/bin/env python3
"""Prints a seccomp profile for a container runtime: the runtime's own default profile (a JSON file) with io_uring allowed.

    deploy/seccomp.py /path/to/default.json > millrace-seccomp.json
    docker run --security-opt seccomp=millrace-seccomp.json ...

The default profile stays the runtime's: it changes with its releases, and a copy here would grow old.
"""
import json
import sys

WANTED = ["io_uring_enter", "io_uring_register", "io_uring_setup"]


def allow(profile):
    profile["syscalls"] = [dict(rule, names=[n for n in rule.get("names", []) if n not in WANTED])
                           for rule in profile.get("syscalls") or []]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    profile["syscalls"].append({"names": WANTED, "action": "SCMP_ACT_ALLOW", "comment": "millrace: disk and sockets in one ring"})
    return profile


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if len(sys.argv) == 2 else 2
    try:
        with open(sys.argv[1], encoding="utf-8") as source:
            profile = json.load(source)
    except (OSError, ValueError) as error:
        print(f"seccomp.py: {sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        print(f"seccomp.py: {sys.argv[1]} is not a seccomp profile: it has no defaultAction", file=sys.stderr)
        return 1
    json.dump(allow(profile), sys.stdout, indent=2)
    print()
    return 0


sys.exit(main())
