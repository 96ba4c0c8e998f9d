#!/usr/bin/env python3
"""Writes the man pages from what the binary's own --help says, so that the two cannot differ: millrace(1), and millrace-VERB(1)
for each verb that does something.

    deploy/man/pages.py BINARY FOLDER

What help has no room for stands in deploy/man/PAGE.roff and follows the options.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
WITHOUT_PAGE = ("help", "version")
EXIT = ".SH EXIT STATUS\n0: done. 1: it failed, and standard error says why. 2: the command line makes no sense."


def help_of(binary, *verb):
    return subprocess.run([binary, *verb, "--help"], capture_output=True, check=True, text=True).stdout.splitlines()


def plain(text):
    """Text that roff prints as it stands."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def term(name, text):
    return f".TP\n.B {plain(name)}\n{plain(text)}"


class Help:
    """The parts of one --help."""

    def __init__(self, lines):
        self.summary, self.sections, self.footer, self.examples, self.after = lines[0].rstrip("."), {}, [], [], []
        section = None
        entry = re.compile(r"^  (\S(?:\S| (?! ))*)(?:  +(\S.*))?$")
        for line in lines[2:]:
            if re.fullmatch(r"[A-Z]\w+:", line):
                section = line[:-1]
                self.sections.setdefault(section, [])
            elif section in ("Options", "Positionals", "Subcommands") and entry.match(line):
                self.sections[section].append([*entry.match(line).groups(default="")])
            elif section in ("Options", "Positionals", "Subcommands") and line.startswith("      "):
                self.sections[section][-1][1] = (self.sections[section][-1][1] + " " + line.strip()).strip()
            elif section == "Examples" and line.startswith("  "):
                self.examples.append(line.strip())
            elif line:
                (self.after if section == "Examples" else self.footer).append(line)
                section = section if section == "Examples" else None

    def options(self):
        return "\n".join(term(name, text) for name, text in self.sections.get("Options", []))


def head(name, version, summary):
    return (f'.TH {name.upper()} 1 "" "{version}" "User Commands"\n.SH NAME\n{plain(name)} \\- {plain(summary[0].lower() + summary[1:])}\n')


def extra(name):
    path = os.path.join(HERE, name + ".roff")
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return file.read().rstrip() + "\n"


def examples(found):
    return ".SH EXAMPLES\n.nf\n" + "\n".join(plain(line) for line in found.examples) + "\n.fi\n" if found.examples else ""


def verb_page(binary, version, verb):
    found = Help(help_of(binary, verb))
    name = f"millrace-{verb}"
    page = head(name, version, found.summary)
    page += f".SH SYNOPSIS\n.B millrace {verb}\n.RI [ options ]\n.SH DESCRIPTION\n{plain(found.summary)}.\n"
    for paragraph in (found.footer, found.after):
        if paragraph:
            page += ".PP\n" + "\n".join(plain(line) for line in paragraph) + "\n"
    page += f".SH OPTIONS\n{found.options()}\n" + extra(name) + EXIT + "\n" + examples(found)
    return page + ".SH SEE ALSO\n.BR millrace (1)\n"


def main_page(binary, version):
    found = Help(help_of(binary))
    verbs = found.sections["Subcommands"]
    page = head("millrace", version, found.summary.removeprefix("Millrace "))
    page += ".SH SYNOPSIS\n.B millrace\n.I VERB\n.RI [ options ]\n" + extra("millrace")
    page += ".SH VERBS\n" + "\n".join(term(name, text) for name, text in verbs) + f"\n.SH OPTIONS\n{found.options()}\n" + EXIT + "\n"
    pages = [f".BR millrace\\-{name} (1)" for name, _ in verbs if name not in WITHOUT_PAGE]
    return page + ".SH SEE ALSO\n" + ",\n".join(pages) + "\n"


def pages(binary):
    """Every page by its file name."""
    version = subprocess.run([binary, "version"], capture_output=True, check=True, text=True).stdout.split("\n")[0].strip()
    made = {"millrace.1": main_page(binary, version)}
    for name, _ in Help(help_of(binary)).sections["Subcommands"]:
        if name not in WITHOUT_PAGE:
            made[f"millrace-{name}.1"] = verb_page(binary, version, name)
    return made


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    os.makedirs(sys.argv[2], exist_ok=True)
    for name, text in pages(sys.argv[1]).items():
        with open(os.path.join(sys.argv[2], name), "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
