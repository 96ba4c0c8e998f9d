"""House rules for coroutines: g++ 12 destroys temporaries inside `co_await (...)` twice.

Inside co_await stand only names, scalars and trivially destructible temporaries. The compiler cannot be asked, so these
are heuristics over the text: they look for the shapes that were seen to break.
"""

import re

from tree import Violation, code_of, cpp_files, line_at

OPENING, CLOSING = "([{", ")]}"


def awaited_expressions(code):
    """(offset, text) of the operand of each co_await."""
    for match in re.finditer(r"\bco_await\b", code):
        depth, at = 0, match.end()
        while at < len(code):
            sign = code[at]
            if sign in OPENING:
                depth += 1
            elif sign in CLOSING:
                depth -= 1
            if depth < 0 or (depth == 0 and sign in ";,"):
                break
            at += 1
        yield match.start(), code[match.end():at]


SHAPES = [
    (r"\{(?!\s*\})", "a braced temporary; name it first"),
    (r'"', "a string literal may become a temporary std::string; name it first"),
    (r"\bstd::(?:string|vector|function|make_\w+|move|exchange|unique_ptr|shared_ptr|optional|tuple|pair)\b",
     "a temporary with a destructor; name the Task first: `auto task = f(std::move(x)); co_await task;`"),
    (r"\bfmt::|\.to_string\(|\bformat_\w+\(|\bstd::format\b", "a temporary string; name it first"),
    (r"\[[^\]]*\]\s*(?:\(|\{)", "a lambda; name it first"),
]


def co_await_operands(files):
    """Nothing with a destructor is made inside co_await."""
    for path, text in cpp_files(files).items():
        code = code_of(text)
        for at, operand in awaited_expressions(code):
            for pattern, why in SHAPES:
                if re.search(pattern, operand):
                    yield Violation(path, line_at(code, at), f"co_await {' '.join(operand.split())[:60]}: {why}")


def co_await_macros(files):
    """No co_await inside a macro's arguments."""
    for path, text in cpp_files(files).items():
        code = code_of(text)
        for match in re.finditer(r"\b[A-Z][A-Z0-9_]{3,}\s*\(", code):
            depth, at = 1, match.end()
            while at < len(code) and depth:
                depth += (code[at] == "(") - (code[at] == ")")
                at += 1
            if re.search(r"\bco_await\b", code[match.end():at]) and not re.match(r"(?:TEST|TEST_F|TEST_P)\b", match.group(0)):
                yield Violation(path, line_at(code, match.start()),
                                f"co_await inside {match.group(0).strip('( ')}(...): take its value first, then use the macro")


def coroutine_lambdas(files):
    """A lambda that is a coroutine captures nothing: its closure dies before it does."""
    pattern = re.compile(r"\[\s*([^\]\[\s][^\]\[]*)\]\s*\([^{};]*\)\s*(?:mutable\s*)?->\s*(?:millrace::)?Task\b")
    for path, text in cpp_files(files).items():
        code = code_of(text)
        for match in pattern.finditer(code):
            yield Violation(path, line_at(code, match.start()),
                            f"a coroutine lambda captures [{match.group(1)}]; pass it as a parameter")


RULES = [co_await_operands, co_await_macros, coroutine_lambdas]

PLANTED = {
    "co_await_operands": {
        "bad": [{"storage/a.cpp": line + "\n"} for line in (
            "auto r = co_await read(Range{a, b});", 'co_await open("name");', "co_await write(std::move(bytes));",
            "co_await f(std::string(a));", "co_await f([&](int x) { return x; });", "co_await g(format_day(day));")],
        "good": [{"storage/a.cpp": "co_await Yield{};\nauto r = co_await Io(operation);\nco_await task;\n"
                                   "if (!co_await ready(a, b)) return {c, d};\nco_await Sleep(reactor_, deadline + 5);\n"}],
    },
    "co_await_macros": {
        "bad": [{"storage/a.cpp": "MR_ASSERT(co_await f());\n"}, {"tests/base/a.cpp": "EXPECT_TRUE((co_await g()).has_value());\n"}],
        "good": [{"storage/a.cpp": "auto r = co_await f(); MR_ASSERT(r);\n"}],
    },
    "coroutine_lambdas": {
        "bad": [{"tests/base/a.cpp": "auto f = [&](int x) -> Task<> { co_return {}; };\n"},
                {"tests/base/a.cpp": "auto f = [this](int x) -> Task<int> { co_return 1; };\n"}],
        "good": [{"tests/base/a.cpp": "auto f = [](Reactor& r) -> Task<> { co_return {}; };\nint a[3]; f(x);\n"}],
    },
}
