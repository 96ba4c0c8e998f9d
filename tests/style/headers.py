"""Every header compiles alone: it includes what it uses, so a reader may start anywhere."""

import json
import os
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from tree import Violation

# Headers of the public face are compiled the way a user does: with nothing but their own folder.
PUBLIC = "sdk/include/"


def compiler():
    wrapper = ["ccache"] if shutil.which("ccache") else []
    return wrapper + [shutil.which("g++-12") or "g++"]


def include_flags(build_folder):
    """-I, -isystem and -D of the tree's own build, so that generated headers are found."""
    flags = []
    with open(os.path.join(build_folder, "compile_commands.json"), encoding="utf-8") as file:
        for entry in json.load(file):
            for word in shlex.split(entry["command"]):
                if not word.startswith(("-I", "-isystem", "-D")):
                    continue
                if word.startswith("-I"):
                    word = "-I" + os.path.normpath(os.path.join(entry["directory"], word[2:]))
                if word not in flags and not word.startswith("-DMILLRACE_MUTANT") and ".p" not in word[-2:]:
                    flags.append(word)
    return flags


def compile_alone(root, path, flags, folder):
    source = os.path.join(folder, path.replace("/", "__") + ".cpp")
    name = path[len(PUBLIC):] if path.startswith(PUBLIC) else path
    text = f'#include "{name}"\n'
    if not os.path.exists(source):
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
    own = ["-I" + os.path.join(root, PUBLIC)] if path.startswith(PUBLIC) else ["-I" + root] + flags
    command = compiler() + ["-std=c++23", "-O0", "-Wall", "-Wextra", "-Werror", "-Wno-mismatched-new-delete", *own, "-c", source, "-o", source + ".o"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode == 0:
        return None
    first = next((line for line in run.stderr.splitlines() if "error" in line), "does not compile")
    return Violation(path, 1, "does not compile alone: " + first)


def check(root, files, build_folder):
    """Compiles each header in a unit of its own; yields those that fail."""
    folder = os.path.join(build_folder, "headers_alone")
    os.makedirs(folder, exist_ok=True)
    flags = include_flags(build_folder)
    paths = sorted(path for path in files if path.endswith(".hpp"))
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        yield from filter(None, pool.map(lambda path: compile_alone(root, path, flags, folder), paths))


def planted_is_found(folder):
    """The self-test: a header that forgets its include is found, one that does not is clean."""
    os.makedirs(os.path.join(folder, "base"), exist_ok=True)
    for name, text in (("bad", "#pragma once\nstd::string x();\n"), ("good", "#pragma once\n#include <string>\nstd::string x();\n")):
        with open(os.path.join(folder, "base", name + ".hpp"), "w", encoding="utf-8") as file:
            file.write(text)
    bad = compile_alone(folder, "base/bad.hpp", [], folder)
    good = compile_alone(folder, "base/good.hpp", [], folder)
    return bad is not None and good is None
