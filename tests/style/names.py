"""Names of files and types, and no file that nobody builds."""

import re

from tree import Violation, code_of, cpp_files, line_at

CPP_FILE = re.compile(r"^[a-z][a-z0-9_]*\.(?:hpp|cpp)$")
FOLDER = re.compile(r"^\.?[a-z][a-z0-9_-]*$")
TYPE = re.compile(r"^\s*(?:template\s*<[^{;]*>\s*)?(?:class|struct|union|enum(?:\s+class)?)\s+(?:\[\[\w+\]\]\s+)?(?:alignas\([^)]*\)\s+)?"
                  r"(?!std::)([A-Za-z_]\w*)(?=\s*(?:final\s*)?(?::[^;(]*)?\{)", re.M)
TYPES_OF_THE_LANGUAGE = {"promise_type", "hash", "formatter", "coroutine_traits", "numeric_limits", "tuple_size", "less",
                         "iterator_traits", "io_uring", "io_uring_sqe", "io_uring_cqe", "sockaddr_in", "rlimit", "stat"}


def file_names(files):
    """C++ is snake_case.hpp and snake_case.cpp in snake_case folders."""
    for path in files:
        *folders, name = path.split("/")
        if re.search(r"\.(?:hpp|cpp|h|hh|hxx|cc|cxx|C)$", name) and not CPP_FILE.match(name):
            yield Violation(path, 1, "C++ files are named snake_case.hpp or snake_case.cpp")
        for folder in folders:
            if not FOLDER.match(folder):
                yield Violation(path, 1, f"folder {folder} is not snake_case")


def type_names(files):
    """Types are PascalCase."""
    for path, text in cpp_files(files).items():
        code = code_of(text)
        for match in TYPE.finditer(code):
            name = match.group(1)
            if not re.match(r"^[A-Z][A-Za-z0-9]*$", name) and name not in TYPES_OF_THE_LANGUAGE:
                yield Violation(path, line_at(code, match.start(1)), f"type {name} is not PascalCase")


def built(files):
    """Every .cpp is named in a meson.build on its way to the root."""
    for path in cpp_files(files):
        if not path.endswith(".cpp"):
            continue
        parts = path.split("/")
        for depth in range(len(parts) - 1, -1, -1):
            meson = files.get("/".join(parts[:depth] + ["meson.build"]))
            rest = "/".join(parts[depth:])
            if meson and re.search(r"(?<![\w/])" + re.escape(rest) + r"(?!\w)|'" + re.escape(re.sub(r"^fuzz_", "", rest[:-4])) + r"'", meson):
                break
        else:
            yield Violation(path, 1, "no meson.build names this file")


MUTANT_LISTS = ("tests/sim/mutants.txt", "tests/reactor/mutants.txt")
MUTANT = re.compile(r'\bmutant\("(\w*)"\)')


def mutants(files):
    """The deliberate bugs in the code are those that tests/sim/mutants.txt (above the seam) and tests/reactor/mutants.txt (in the
    kernels behind it) describe, each once at least."""
    listed = {}
    for home in MUTANT_LISTS:
        for number, line in enumerate(files.get(home, "").splitlines(), 1):
            words = line.split()
            if not words or line.startswith("#"):
                continue
            listed[words[0]] = (home, number)
            if len(words) < 3:
                yield Violation(home, number, f"{words[0]} has no description")
    used = set()
    for path, text in cpp_files(files).items():
        if path == "base/mutant.hpp":
            continue
        for match in MUTANT.finditer(text):
            used.add(match.group(1))
            home = MUTANT_LISTS[path.startswith("reactor/")]
            if listed.get(match.group(1), ("",))[0] != home:
                yield Violation(path, line_at(text, match.start()), f"mutant {match.group(1)} is not in {home}")
    for name in sorted(set(listed) - used):
        yield Violation(*listed[name], f"no code has the mutant {name}")


RULES = [file_names, type_names, built, mutants]

PLANTED = {
    "file_names": {
        "bad": [{"base/Bytes.hpp": ""}, {"base/bytes.cc": ""}, {"base/my-bytes.cpp": ""}, {"Base/bytes.cpp": ""}],
        "good": [{"base/bytes.hpp": "", "tests/sim/disk_2.cpp": "", ".ci/run": ""}],
    },
    "type_names": {
        "bad": [{"base/a.hpp": "struct my_thing {\n};\n"}, {"base/a.hpp": "enum class color : int { red };\n"}],
        "good": [{"base/a.hpp": "struct MyThing {\n  struct promise_type : X {\n};\n};\nstruct stat info;\nstruct rlimit limit{};\nclass Forward;\n"}],
    },
    "mutants": {
        "bad": [{"storage/a.cpp": 'if (mutant("torn")) x();\n'}, {"tests/sim/mutants.txt": "torn  writes half of it\n"},
                {"storage/a.cpp": 'mutant("torn")', "tests/sim/mutants.txt": "torn\n"}, {"tests/reactor/mutants.txt": "deaf  hears nothing\n"},
                {"reactor/a.cpp": 'mutant("torn")', "tests/sim/mutants.txt": "torn  writes half of it\n"}],
        "good": [{"storage/a.cpp": 'mutant("torn")', "tests/sim/mutants.txt": "# name  what it does\ntorn  writes half of it\n"},
                 {"reactor/a.cpp": 'mutant("deaf")', "tests/reactor/mutants.txt": "deaf  hears nothing\n"}],
    },
    "built": {
        "bad": [{"base/a.cpp": "", "base/meson.build": "static_library('base', 'b.cpp', 'xa.cpp')\n"}],
        "good": [{"base/a.cpp": "", "base/meson.build": "static_library('base', 'a.cpp')\n"},
                 {"fuzz/fuzz_frame.cpp": "", "fuzz/meson.build": "foreach name : ['frame']\n"}],
    },
}
