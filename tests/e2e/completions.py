#!/usr/bin/env python3
"""The completions, driven in the shells they are for: what Tab makes of a beginning."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import harness
from harness import Skip, expect, main

FOLDER = os.path.join(harness.ROOT, "deploy", "completions")
# what is typed: what Tab makes of its last word
TYPED = {"millrace se": "serve", "millrace doc": "doctor", "millrace serve --ker": "--kernel", "millrace append --del": "--delimiter",
         "millrace stat --jso": "--json"}


def need(shell):
    if not shutil.which(shell):
        raise Skip(shell, f"no {shell}")


def fish(case):
    need("fish")
    os.mkdir(case.path("home"))
    for typed, wanted in TYPED.items():
        done = subprocess.run(["fish", "--no-config", "-c", f"source {FOLDER}/millrace.fish; complete -C '{typed}'"], capture_output=True,
                              timeout=60, env={**os.environ, "HOME": case.path("home")})
        offered = [line.split(b"\t")[0].decode() for line in done.stdout.splitlines()]
        expect(offered == [wanted], f"fish: {typed!r}: {offered} {done.stderr!r}")
    return f"{len(TYPED)} beginnings completed"


def bash(case):
    for typed, wanted in TYPED.items():
        words = typed.split()
        done = subprocess.run(["bash", "-c", f". {FOLDER}/millrace.bash; COMP_WORDS=({typed}) COMP_CWORD={len(words) - 1}; _millrace; "
                                             'printf "%s\n" "${COMPREPLY[@]}"'], capture_output=True, timeout=60)
        offered = done.stdout.decode().split()
        expect(offered == [wanted], f"bash: {typed!r}: {offered} {done.stderr!r}")
    return f"{len(TYPED)} beginnings completed"


class Terminal:
    def __init__(self, *command, **environment):
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, {**os.environ, **environment})
        self.seen = ""

    def type(self, text):
        self.seen = ""
        os.write(self.descriptor, text.encode())

    def wait_for(self, text, seconds=20):
        end = time.monotonic() + seconds
        while text not in self.seen:
            expect(time.monotonic() < end, f"no {text!r} on the terminal: {self.seen[-400:]!r}")
            if select.select([self.descriptor], [], [], 0.2)[0]:
                self.seen += os.read(self.descriptor, 4096).decode(errors="replace")

    def end(self):
        os.close(self.descriptor)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def zsh(case):
    need("zsh")
    os.mkdir(case.path("home"))
    terminal = Terminal("zsh", "-f", "-i", TERM="dumb", HOME=case.path("home"))
    case.undo.append(terminal.end)
    terminal.type(f"unsetopt ZLE_BRACKETED_PASTE; fpath=({FOLDER} $fpath); autoload -Uz compinit; compinit -u -D; PS1='rea''dy> '\n")
    terminal.wait_for("ready> ")
    for typed, wanted in TYPED.items():
        terminal.type(typed + "\t")
        terminal.wait_for(" ".join(typed.split()[:-1] + [wanted]))
        terminal.type("\x15echo do''ne\n")
        terminal.wait_for("done")
        terminal.wait_for("ready> ")
    return f"{len(TYPED)} beginnings completed"


CASES = [(function.__name__, function) for function in (bash, fish, zsh)]

if __name__ == "__main__":
    sys.exit(main("completions", CASES))
