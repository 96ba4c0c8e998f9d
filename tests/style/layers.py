"""The include graph is the house of ARCHITECTURE.md: who may include whom, and no cycles."""

import re

from tree import Violation, code_and_includes_of, cpp_files, line_at

# folder -> what its files may include, as path prefixes. Longest folder wins; a folder may always include itself.
CORE = ("base/", "protocol/", "reactor/", "storage/")
MAY_INCLUDE = {
    "base": (),
    "reactor": ("base/",),
    "protocol": ("base/",),
    "storage": ("base/", "reactor/", "protocol/batch"),
    "replica": ("base/", "reactor/", "protocol/", "storage/"),
    "sdk": ("base/", "protocol/", "sdk/", "millrace/"),
    "sdk/include": ("millrace/",),
    "embed": ("base/", "reactor/", "protocol/", "storage/", "sdk/", "millrace/"),
    "server": CORE + ("replica/", "sdk/", "embed/", "millrace/"),
    "cli": ("base/", "reactor/kernel_choice.hpp", "reactor/placement.hpp", "server/", "sdk/", "embed/", "millrace/"),
    "bench": ("base/", "sdk/", "embed/", "millrace/"),
    "bench/micro": CORE + ("bench/", "sdk/", "embed/", "millrace/"),
    "examples": ("millrace/", "embed/"),
    "fuzz": CORE + ("replica/", "server/config", "tests/sim/", "tests/storage/log_model", "tests/support/"),
    "tests": (),
    "tests/support": CORE,
    "tests/base": ("base/", "tests/support/"),
    "tests/reactor": ("base/", "reactor/", "tests/sim/", "tests/support/"),
    "tests/protocol": ("base/", "protocol/", "tests/support/"),
    "tests/storage": CORE + ("tests/reactor/scripted_kernel.hpp", "tests/sim/", "tests/support/"),
    "tests/replica": CORE + ("replica/", "tests/sim/", "tests/support/"),
    "tests/sdk": CORE + ("sdk/", "millrace/", "server/", "tests/sim/", "tests/support/"),
    "tests/embed": CORE + ("sdk/", "embed/", "millrace/", "tests/sim/", "tests/storage/", "tests/support/"),
    "tests/server": CORE + ("replica/", "server/", "sdk/", "millrace/", "tests/sim/", "tests/support/"),
    "tests/cli": ("base/", "cli/", "server/", "sdk/", "embed/", "millrace/", "tests/support/"),
    "tests/bench": ("base/", "bench/", "sdk/", "millrace/", "tests/support/"),
    "tests/sim": CORE + ("replica/", "server/", "sdk/", "embed/", "millrace/", "tests/sim/", "tests/support/"),
    # The checker knows the formats from their pages, not from the code it judges.
    "tests/sim/checker": ("base/",),
    "tests/e2e": ("base/", "sdk/", "millrace/", "tests/support/"),
}
# The one place where concrete classes meet a kernel is the server; a simulated one is named here.
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)
GENERATED = re.compile(r"^[a-z_/]+_generated\.h$|^base/mutant_name\.h$")


def room_of(path):
    """The longest folder of MAY_INCLUDE that holds the path."""
    parts = path.split("/")[:-1]
    while parts and "/".join(parts) not in MAY_INCLUDE:
        parts.pop()
    return "/".join(parts)


def includes_of(text):
    code = code_and_includes_of(text)
    return [(match.group(1), line_at(code, match.start())) for match in INCLUDE.finditer(code)]


def resolve(files, target):
    for path in (target, "sdk/include/" + target):
        if path in files:
            return path
    return None


def layers(files):
    """Each folder includes only what the house lets it see, by its path from the root."""
    for path, text in cpp_files(files).items():
        room = room_of(path)
        if not room:
            yield Violation(path, 1, "this folder has no place in the house; name it in tests/style/layers.py")
            continue
        for target, line in includes_of(text):
            if resolve(files, target) is None and not GENERATED.search(target):
                yield Violation(path, line, f'"{target}" is no file of the tree; include by the path from the root')
                continue
            own = room_of(resolve(files, target) or target) == room
            if not own and not target.startswith(MAY_INCLUDE[room]):
                allowed = " ".join(MAY_INCLUDE[room]) or "nothing"
                yield Violation(path, line, f"{room}/ may not include {target}; it may include: {allowed}")


def cycles(files):
    """No header reaches itself through includes, and no two folders of the house include each other."""
    cpp = cpp_files(files)
    graph = {path: [resolve(files, target) for target, _ in includes_of(text)] for path, text in cpp.items()}
    yield from find_cycles({path: [to for to in targets if to] for path, targets in graph.items()})
    rooms = {}
    for path, targets in graph.items():
        for target in targets:
            if target and path.split("/")[0] != target.split("/")[0]:
                rooms.setdefault(path.split("/")[0], set()).add(target.split("/")[0])
    yield from find_cycles({room: sorted(targets) for room, targets in rooms.items()})


def find_cycles(graph):
    done = set()
    for start in sorted(graph):
        trail, open_nodes = [], set()

        def visit(node):
            if node in open_nodes:
                return trail[trail.index(node):] + [node]
            if node in done:
                return None
            trail.append(node)
            open_nodes.add(node)
            for target in graph.get(node, ()):
                found = visit(target)
                if found:
                    return found
            trail.pop()
            open_nodes.remove(node)
            done.add(node)
            return None

        found = visit(start)
        if found:
            yield Violation(found[0], 1, "include cycle: " + " -> ".join(found))
            return


RULES = [layers, cycles]

_BASE = {"base/a.hpp": "#pragma once\n", "protocol/batch.hpp": "", "protocol/frame.hpp": "", "storage/log.hpp": "",
         "sdk/include/millrace/client.hpp": "", "server/server.hpp": ""}
PLANTED = {
    "layers": {
        "bad": [
            {**_BASE, "base/b.hpp": '#include "storage/log.hpp"\n'},
            {**_BASE, "reactor/b.hpp": '#include "protocol/frame.hpp"\n'},
            {**_BASE, "storage/b.hpp": '#include "protocol/frame.hpp"\n'},
            {**_BASE, "sdk/core/b.hpp": '#include "storage/log.hpp"\n'},
            {**_BASE, "sdk/include/millrace/b.hpp": '#include "base/a.hpp"\n'},
            {**_BASE, "examples/b.cpp": '#include "storage/log.hpp"\n'},
            {**_BASE, "storage/b.cpp": '#include "server/server.hpp"\n'},
            {**_BASE, "tests/sim/checker/b.cpp": '#include "storage/log.hpp"\n'},
            {**_BASE, "base/b.hpp": '#include "a.hpp"\n'},
            {**_BASE, "attic/b.cpp": ""},
        ],
        "good": [
            {**_BASE, "storage/b.hpp": '#include "base/a.hpp"\n#include "protocol/batch.hpp"\n#include <vector>\n'},
            {**_BASE, "examples/b.cpp": '#include "millrace/client.hpp"\n'},
            {**_BASE, "base/b.hpp": '// #include "storage/log.hpp"\n'},
            {**_BASE, "protocol/b.cpp": '#include "protocol/batch_generated.h"\n'},
        ],
    },
    "cycles": {
        "bad": [
            {"base/a.hpp": '#include "base/b.hpp"\n', "base/b.hpp": '#include "base/a.hpp"\n'},
            {"base/a.hpp": '#include "base/a.hpp"\n'},
            {"base/a.hpp": '#include "reactor/b.hpp"\n', "reactor/b.hpp": "", "reactor/c.hpp": '#include "base/d.hpp"\n',
             "base/d.hpp": ""},
        ],
        "good": [{"base/a.hpp": '#include "base/b.hpp"\n', "base/b.hpp": "", "reactor/c.hpp": '#include "base/a.hpp"\n'}],
    },
}
