#!/usr/bin/env python3
"""Runs a command as a stricter place would let it: without io_uring, with little locked memory, as nobody.

    confine.py [--refuse all|enter|register] [--errno NAME] [--memlock BYTES] [--processes N] [--user UID] -- COMMAND…

--refuse denies io_uring's system calls by seccomp, as container runtimes do (EPERM) or as old kernels look (ENOSYS).
"""

import argparse
import ctypes
import errno
import os
import resource
import struct
import sys

CALLS = {"setup": 425, "enter": 426, "register": 427}  # the same numbers on every architecture
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER_MODE = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def instruction(code, value, jump_true=0, jump_false=0):
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def refuse(calls, number):
    """From now on, for this process and what it starts."""
    steps = instruction(LOAD_NUMBER, 0)
    for index, call in enumerate(calls):
        steps += instruction(JUMP_IF_EQUAL, CALLS[call], len(calls) - index, 0)
    steps += instruction(RETURN, ALLOW) + instruction(RETURN, REFUSE | number)
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(steps) // 8, steps)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or \
            libc.prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.byref(program), 0, 0) != 0:
        sys.exit(f"confine: no seccomp: {os.strerror(ctypes.get_errno())}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refuse", choices=["all", *CALLS])
    parser.add_argument("--errno", choices=["EPERM", "ENOSYS", "EINVAL", "ENOMEM"], default="EPERM")
    parser.add_argument("--memlock", type=int)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--user", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command")
    if options.memlock is not None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (options.memlock, options.memlock))
    if options.processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (options.processes, options.processes))
    if options.user is not None:
        os.setgroups([])
        os.setgid(options.user)
        os.setuid(options.user)
    if options.refuse:
        refuse(list(CALLS) if options.refuse == "all" else [options.refuse], getattr(errno, options.errno))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
