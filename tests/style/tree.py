"""The files of the tree as the style rules see them: path -> text, and C++ with comments and literals blanked."""

import os
import re
from dataclasses import dataclass
from functools import lru_cache

CPP = (".hpp", ".cpp")
TEXT = CPP + (".h", ".c", ".cc", ".md", ".py", ".sh", ".build", ".txt", ".fbs", ".toml", ".json", ".html", ".js", ".css",
              ".yml", ".yaml")
SKIPPED_FOLDERS = re.compile(r"^(\.(?!ci$).*|build.*|quickstart-data|__pycache__|subprojects|corpus|golden)$")
SCRIPTS = {"check", "quickstart", "mutants", ".ci/run"}


@dataclass(frozen=True)
class Violation:
    path: str
    line: int
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.message}"


def load(root):
    """Every text file of the tree that people write, without build folders and binary corpora."""
    files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not SKIPPED_FOLDERS.match(name))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if name.endswith(TEXT) or path in SCRIPTS:
                with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
                    files[path] = file.read()
    return files


def cpp_files(files):
    return {path: text for path, text in files.items() if path.endswith(CPP)}


_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
    re.S)


@lru_cache(maxsize=None)
def code_of(text):
    """The text with comments blanked and literals emptied; offsets and lines stay where they were."""

    def blank(match):
        found = match.group(0)
        if found.startswith("/"):
            return re.sub(r"[^\n]", " ", found)
        return found[0] + re.sub(r"[^\n]", "_", found[1:-1]) + found[-1]

    return _TOKEN.sub(blank, text)


@lru_cache(maxsize=None)
def code_and_includes_of(text):
    """code_of, with the paths of #include "..." kept."""
    code = code_of(text).split("\n")
    for number, line in enumerate(text.split("\n")):
        if line.startswith("#include") and number < len(code):
            code[number] = line
    return "\n".join(code)


def line_at(text, offset):
    return text.count("\n", 0, offset) + 1


def folder_of(path):
    return path.split("/")[0] if "/" in path else ""
