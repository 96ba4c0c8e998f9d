"""How long things may be, and what a file must look like."""

import re

from tree import Violation, code_of, cpp_files, line_at

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

_NOT_A_FUNCTION = re.compile(r"^\s*(?:(?:inline\s+)?namespace|extern|template\s*<[^{]*>\s*(?:class|struct|union)|(?:typedef\s+)?"
                             r"(?:class|struct|union|enum))\b")
_SCOPE = re.compile(r"^\s*(?:template\s*<[^{]*>\s*)?(?:requires[^{]*)?(?:inline\s+)?(?:namespace|extern|class|struct|union)\b")


def functions_of(text):
    """(first line, last line, head) of every function body that stands in a namespace or class."""
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), code_of(text), flags=re.M)
    stack = []  # True = a scope that may hold functions
    head_begin = 0
    opened = None
    for match in re.finditer(r"[{};]", code):
        sign, at = match.group(0), match.start()
        if sign == "{":
            head = re.sub(r"^\s*(?:public|private|protected)\s*:", "", code[head_begin:at])
            in_scope = all(stack)
            is_scope = in_scope and bool(_SCOPE.match(head.strip())) and "(" not in re.sub(r"alignas\([^)]*\)", "", head)
            if in_scope and not is_scope and "(" in head and not _NOT_A_FUNCTION.match(head) and opened is None:
                opened = (len(stack), line_at(code, at), " ".join(head.split())[-90:])
            stack.append(is_scope)
        elif sign == "}" and stack:
            stack.pop()
            if opened and opened[0] == len(stack):
                yield opened[1], line_at(code, at), opened[2]
                opened = None
        if not (opened and sign == ";"):
            head_begin = match.end()


def function_length(files):
    """A function fits a screen."""
    for path, text in cpp_files(files).items():
        for first, last, head in functions_of(text):
            if last - first + 1 > FUNCTION_LINES_MAX:
                yield Violation(path, first, f"{last - first + 1} lines (at most {FUNCTION_LINES_MAX}): {head}")


def file_length(files):
    """A file is one noun; past 500 lines it is two."""
    for path, text in files.items():
        lines = text.count("\n")
        if path.endswith((".hpp", ".cpp", ".py")) and lines > FILE_LINES_MAX:
            yield Violation(path, FILE_LINES_MAX, f"{lines} lines (at most {FILE_LINES_MAX}): split it at a noun")


def header_shape(files):
    """A header says #pragma once, puts nothing into the global namespace of its includers, and opens with its contract."""
    for path, text in cpp_files(files).items():
        if not path.endswith(".hpp"):
            continue
        if "#pragma once" not in text:
            yield Violation(path, 1, "a header needs #pragma once")
        if not text.startswith("//"):
            yield Violation(path, 1, "a header opens with a comment: what it promises, who owns it, which thread touches it")
        match = re.search(r"^\s*using namespace", code_of(text), re.M)
        if match:
            yield Violation(path, line_at(text, match.start()), "no `using namespace` in a header")


def whitespace(files):
    """No tabs in code, no blanks at line ends, one newline at the end of a file."""
    for path, text in files.items():
        if path.endswith(".log"):
            continue
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield Violation(path, number, "blanks at the end of the line")
            if "\t" in line and path.endswith((".hpp", ".cpp", ".py", ".build")):
                yield Violation(path, number, "a tab")
        if text and not text.endswith("\n"):
            yield Violation(path, text.count("\n") + 1, "no newline at the end of the file")


RULES = [function_length, file_length, header_shape, whitespace]

_LONG = "  x();\n" * FUNCTION_LINES_MAX
PLANTED = {
    "function_length": {
        "bad": [
            {"base/a.cpp": "namespace a {\nvoid f() {\n" + _LONG + "}\n}\n"},
            {"base/a.cpp": "class A : B {\n public:\n  A(int x) : x_{x}, y_(2) {\n" + _LONG + "  }\n};\n"},
            {"base/a.cpp": "auto f(int a) -> std::vector<int> {\n  if (a) {\n" + _LONG + "  }\n}\n"},
            {"base/a.cpp": "TEST(A, b) {\n  auto f = [] { g(); };\n" + _LONG + "}\n"},
        ],
        "good": [
            {"base/a.cpp": "namespace a {\n" + "void f() {\n  x();\n}\n" * 60 + "}\n"},
            {"base/a.cpp": "struct A {\n" + "  int x;\n" * 100 + "};\n"},
            {"base/a.cpp": "constexpr std::array names{\n" + "  entry(1),\n" * 100 + "};\n"} ,
        ],
    },
    "file_length": {"bad": [{"base/a.cpp": "int x;\n" * 501}], "good": [{"base/a.cpp": "int x;\n" * 500}]},
    "header_shape": {
        "bad": [{"base/a.hpp": "// A.\nint x;\n"}, {"base/a.hpp": "#pragma once\n"},
                {"base/a.hpp": "// A.\n#pragma once\nusing namespace std;\n"}],
        "good": [{"base/a.hpp": "// A.\n#pragma once\n"}],
    },
    "whitespace": {
        "bad": [{"base/a.cpp": "int x; \n"}, {"base/a.cpp": "\tint x;\n"}, {"README.md": "no end"}],
        "good": [{"base/a.cpp": "int x;\n"}],
    },
}
