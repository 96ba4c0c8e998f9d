"""Words that do not stand in this code, each with what to write instead."""

import re

from tree import Violation, code_and_includes_of, cpp_files, line_at

SHARD_CODE = ("base/", "protocol/", "reactor/", "storage/", "replica/", "server/", "sdk/core/")

# (pattern in code, folders or None for all C++, what to write instead)
CODE_WORDS = [
    (r"\bthread_local\b", None, "pass the Shard or Reactor; N shards run interleaved on one thread"),
    (r"\bstd::(?:mutex|shared_mutex|recursive_mutex|condition_variable|lock_guard|unique_lock|scoped_lock)\b", SHARD_CODE,
     "one thread owns a shard; cross it with a mailbox"),
    (r"\b(?:s?rand|drand48)\s*\(", None, "Random, seeded through Kernel::seed()"),
    (r"(?<![\w_])assert\s*\(", None, "MR_ASSERT, which is always on"),
    (r"#include <cassert>", None, "base/assert.hpp"),
    (r"\bstd::(?:cout|cerr|clog)\b", SHARD_CODE, "return a Result; only programs print"),
    (r"\bstd::endl\b", None, "'\\n'"),
    (r"\bstd::regex\b", None, "a few lines of parsing"),
    (r"\bvolatile\b(?! (?:std::)?sig_atomic_t)", None, "std::atomic"),
    (r"\b(?:sprintf|strcpy|strcat|gets|strtok|atoi|atol)\s*\(", None, "fmt, std::string_view, std::from_chars"),
    (r"\bstd::(?:stoi|stol|stoul|stoull|stod)\b", SHARD_CODE + ("cli/", "bench/"), "std::from_chars, which does not throw"),
    (r"\breinterpret_cast<(?:const )?std::uint(?:16|32|64)_t ?\*>", None, "load_le/store_le of base/bytes.hpp"),
    (r"\bstd::(?:exit|quick_exit|terminate)\b|(?<![\w:.>])exit\s*\(", SHARD_CODE, "return a Result; only main ends the program"),
    (r"(?:[=,(?:&|!{;]|return)\s*\(\{", None, "a statement expression breaks co_await on g++ 12; write a function"),
    (r"\b[Tt]opics?\b", None, "stream"),
]
# In every text file, comments too.
TEXT_WORDS = [
    (r"\b(?:FIX" r"ME|TO" r"DO|X{3}|HA" r"CK)\b", "finish it, or write the limit into docs/limits.md"),
    (r"(?<![\w.])/(?:wor" r"k|hom" r"e|roo" r"t|Users)/[\w.-]+", "a path of one machine; use a path relative to the tree"),
    (r"(?i)\b(?:co-)?autho" r"red[- ]by\b|@auth" r"or\b|\bwrit" r"ten by (?-i:[A-Z])", "the history knows who; the text need not"),
]
TEXT_EXEMPT = re.compile(r"^examples/data/")


def banned_words(files):
    """Constructs with a better name in this tree."""
    for path, text in cpp_files(files).items():
        code = code_and_includes_of(text)
        for pattern, folders, instead in CODE_WORDS:
            if folders is not None and not path.startswith(folders):
                continue
            for match in re.finditer(pattern, code):
                yield Violation(path, line_at(code, match.start()), f"`{match.group(0).strip()}`: instead, {instead}")


def banned_text(files):
    """Unfinished business, paths of one machine and names of people stand in no text."""
    for path, text in files.items():
        if TEXT_EXEMPT.match(path):
            continue
        for pattern, instead in TEXT_WORDS:
            for match in re.finditer(pattern, text):
                yield Violation(path, line_at(text, match.start()), f"`{match.group(0).strip()}`: {instead}")


RULES = [banned_words, banned_text]

PLANTED = {
    "banned_words": {
        "bad": [{"storage/a.cpp": line + "\n"} for line in (
            "thread_local int x;", "std::mutex mutex_;", "int x = rand();", "assert(x);", "#include <cassert>",
            "std::cout << 1;", "std::endl", "std::regex r;", "volatile int x;", "sprintf(a, b);", "std::stoi(x);",
            "auto x = *reinterpret_cast<const std::uint32_t*>(p);", "std::exit(1);",
            "int y = ({ 1; });", "int topic;")],
        "good": [{"storage/a.cpp": "// std::mutex would be wrong here: rand()\nMR_ASSERT(x); static_assert(y); operand(z); f({1});\n"},
                 {"cli/a.cpp": "std::cout << x; std::exit(1);\n"}],
    },
    "banned_text": {
        "bad": [{"base/a.cpp": "// TO" "DO: later\n"}, {"docs/a.md": "FIX" "ME\n"}, {"docs/a.md": "see /wor" "k/main/x\n"},
                {"README.md": "Co-autho" "red-by: a\n"}, {"check": "cd /hom" "e/someone\n"}],
        "good": [{"base/a.cpp": "// a page written before the code; docs/work/plan, the network/home/x\n"}],
    },
}
