#!/usr/bin/env python3
"""The man pages: what the binary's --help says, all of it, in a form that man prints without a complaint."""

import os
import re
import shutil
import subprocess
import sys

import harness
from harness import Skip, expect, main, run

sys.path.insert(0, os.path.join(harness.ROOT, "deploy", "man"))
import pages  # noqa: E402


def words(text):
    return " ".join(text.replace("\\-", "-").replace("\\&", "").replace("\\e", "\\").split())


def complete(case):
    """Each verb that does something has a page, and each of its options stands there with the words of --help."""
    made = pages.pages(harness.BINARY)
    verbs = re.findall(r"^  (\w+) ", run("--help").stdout.decode().split("Subcommands:")[1], re.M)
    expect(set(made) == {"millrace.1"} | {f"millrace-{verb}.1" for verb in verbs if verb not in ("help", "version")}, f"pages: {sorted(made)}")
    options = 0
    for verb in verbs:
        expect(f".B {verb}\n" in made["millrace.1"], f"millrace(1) does not name {verb}")
        page = words(made.get(f"millrace-{verb}.1", ""))
        for name, text in re.findall(r"^  (-\S+(?: \S+)?) {2,}(.+)$", run(verb, "--help").stdout.decode(), re.M) if page else ():
            expect(f".B {name} {words(text)}" in page, f"millrace-{verb}(1) lacks {name}: {text}")
            options += 1
    expect(options > 40, f"only {options} options were found in --help")
    expect("millrace-serve" in made["millrace.1"].replace("\\-", "-") and ".SH SIGNALS" in made["millrace-serve.1"], "no cross-reference, no own section")
    return f"{len(made)} pages, {options} options"


STRANGE = """#!/bin/sh
case "$1$2" in
  version) echo "millrace 9.9" ;;
  --help) printf 'What.\\nUsage: x\\n\\nSubcommands:\\n  brew                        Make tea.\\n' ;;
  *) printf 'Make tea.\\nUsage: x\\n\\nOptions:\\n  --a-rather-long-flag TEMPERATURE\\n                              .degrees\\n\\nExamples:\\n  brew -x\\n' ;;
esac
"""


def follow_the_binary(case):
    """Another binary, other pages: nothing of them is written down a second time."""
    strange = case.path("strange")
    with open(strange, "w") as file:
        file.write(STRANGE)
    os.chmod(strange, 0o755)
    made = pages.pages(strange)
    expect(set(made) == {"millrace.1", "millrace-brew.1"}, f"{sorted(made)}")
    page = made["millrace-brew.1"]
    expect('"millrace 9.9"' in page and ".B \\-\\-a\\-rather\\-long\\-flag TEMPERATURE\n\\&.degrees" in page and "brew \\-x" in page, page)


def print_without_complaint(case):
    if not shutil.which("groff"):
        raise Skip("groff", "no groff")
    for name, text in pages.pages(harness.BINARY).items():
        done = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=text.encode(), capture_output=True, timeout=60)
        expect(done.returncode == 0 and not done.stderr, f"{name}: {done.stderr.decode()}")
        shown = re.sub(r"\x1b\[\d+m|.\x08", "", done.stdout.decode())
        for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
            expect(re.search(f"^{section}$", shown, re.M), f"{name} has no {section}")


CASES = [(function.__name__, function) for function in (complete, follow_the_binary, print_without_complaint)]

if __name__ == "__main__":
    sys.exit(main("manual", CASES))
