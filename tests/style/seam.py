"""Everything the program learns from or does to the outside world goes through reactor/kernel.hpp.

A clock, a random number or a system call anywhere else would be code that the simulator cannot run. The exceptions
stand here by name, each with its reason; an exception that nothing uses any more is itself a violation.
"""

import fnmatch
import re

from tree import Violation, code_and_includes_of, cpp_files, line_at


def headers(*names):
    return [re.compile(r"#include <(?:" + "|".join(names) + r")>")]


def calls(*names):
    return [re.compile(r"(?<![\w.>])(?:std::|::)?(?:" + "|".join(names) + r")\s*\(")]


KINDS = {
    "clock": headers("time.h", "ctime", "sys/time.h", "sys/timex.h") +
             calls("clock_gettime", "gettimeofday", "timespec_get", "localtime(?:_r)?", "gmtime(?:_r)?", "mktime",
                   "nanosleep", "usleep", "__rdtsc", "rdtsc") +
             [re.compile(r"(?<!\w)(?:std)?::(?:time|clock)\s*\(|(?<![\w.>])time\((?:nullptr|NULL|0)\)"),
              re.compile(r"\b(?:system|steady|high_resolution|utc|tai)_clock\b"),
              re.compile(r"\bsleep_(?:for|until)\b")],
    "random": headers("random", "sys/random.h") +
              calls("rand", "srand", "drand48", "getrandom", "getentropy", "arc4random") +
              [re.compile(r"\brandom_device\b|\bmt19937\b|/dev/u?random")],
    "system": headers("unistd\\.h", "fcntl\\.h", "sys/(?!types\\.h|random\\.h|time)[\\w/]+\\.h", "netinet/[\\w/]+\\.h",
                      "arpa/inet\\.h", "netdb\\.h", "poll\\.h", "dirent\\.h", "sched\\.h", "pthread\\.h", "signal\\.h",
                      "csignal", "linux/[\\w/]+\\.h", "filesystem", "fstream", "termios\\.h", "spawn\\.h", "dlfcn\\.h") +
              calls("pread", "pwrite", "preadv2?", "pwritev2?", "fsync", "fdatasync", "fallocate", "mmap", "munmap", "mlock",
                    "madvise", "setsockopt", "getsockopt", "accept4", "epoll_\\w+", "eventfd", "syscall", "ioctl",
                    "fcntl", "exec[lv]\\w*", "popen", "fopen", "getenv", "setenv", "getpid", "gettid",
                    "sigaction", "opendir", "readdir", "statvfs", "sysconf", "getrlimit", "setrlimit") +
              [re.compile(r"(?<![\w>])::(?:open|openat|close|read|write|send|recv|bind|listen|accept|connect|stat|fstat|lstat"
                          r"|socket|system|fork|flock|random|unlink|rename|mkdir|rmdir|truncate|ftruncate|poll|dup2?|pipe2?|kill|signal)\s*\(")],
    "thread": headers("thread", "mutex", "shared_mutex", "condition_variable", "future", "semaphore", "stop_token", "latch",
                      "barrier"),
    "liburing": [re.compile(r"#include <liburing")] + calls("io_uring_\\w+"),
}

EVERYTHING = set(KINDS) - {"liburing"}
# (files, kinds, reason). Programs come first, then the few library files that are the seam itself.
EXCEPTIONS = [
    ("cli/*", EVERYTHING, "the program around the server: signals, terminals, files named on the command line"),
    ("bench/*", EVERYTHING, "a client that measures: it needs clocks and threads"),
    ("examples/*", EVERYTHING, "programs of users"),
    ("fuzz/*", {"system"}, "libFuzzer hosts these"),
    ("tests/base/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/reactor/*", EVERYTHING | {"liburing"}, "tests look at the world to judge"),
    ("tests/protocol/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/storage/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/replica/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/sdk/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/embed/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/server/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/cli/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/bench/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/e2e/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/support/*", EVERYTHING, "tests look at the world to judge"),
    ("tests/sim/*_test.cpp", {"clock"}, "says how fast simulated time passes"),
    ("tests/sim/main.cpp", {"clock", "thread", "system"}, "runs seeds side by side and shows progress; the simulation has none"),
    ("reactor/uring_*", {"clock", "random", "system", "liburing"}, "the kernel behind the seam"),
    ("reactor/posix_*", {"clock", "random", "system"}, "the kernel behind the seam where io_uring is refused"),
    ("reactor/socket_address.*", {"system"}, "numeric addresses to the kernel's form and back, for both kernels"),
    ("server/threads.*", {"thread"}, "one thread a core; nothing else of the server starts any"),
    ("reactor/helper_thread.*", {"system"}, "what io_uring has no opcode for, off the shard"),
    ("reactor/thread.*", {"system"}, "a thread whose start may fail"),
    ("reactor/host_text.*", {"system"}, "reads what /proc and /sys say of the machine, once, at its start"),
    ("reactor/placement.*", {"system"}, "pins a shard's thread to its core, once, at its start"),
    ("sdk/include/millrace/producer.hpp", {"thread"}, "gives a std::future to who wants one"),
    ("sdk/client_impl.hpp", {"thread"}, "application threads meet the I/O thread behind the handles"),
    ("server/threads.*", {"thread"}, "the server on real threads, one a core"),
    ("sdk/socket_thread.*", {"clock", "random", "system", "thread"}, "the sdk's only thread and socket, around its sans-I/O core"),
]


def found_kinds(text):
    code = code_and_includes_of(text)
    for kind, patterns in KINDS.items():
        for pattern in patterns:
            for match in pattern.finditer(code):
                yield kind, line_at(code, match.start()), match.group(0).strip(" (")


def seam(files):
    """No clock, randomness, thread or system call outside the named files."""
    for path, text in cpp_files(files).items():
        allowed = set()
        for pattern, kinds, _ in EXCEPTIONS:
            if fnmatch.fnmatch(path, pattern):
                allowed |= kinds
        for kind, line, what in found_kinds(text):
            if kind not in allowed:
                yield Violation(path, line, f"{what}: {kind} outside the seam (reactor/kernel.hpp)")


def seam_exceptions(files):
    """An exception for one noun is still needed by a file of that noun."""
    for pattern, kinds, _ in EXCEPTIONS:
        if pattern.startswith(("tests/", "cli/", "bench/", "examples/", "fuzz/")):
            continue
        matching = [text for path, text in cpp_files(files).items() if fnmatch.fnmatch(path, pattern)]
        if not matching:
            continue  # not built yet, or gone: harmless, and the tests below plant on it
        used = {kind for text in matching for kind, _, _ in found_kinds(text)}
        for kind in sorted(kinds - used):
            yield Violation("tests/style/seam.py", 1, f"{pattern} needs no exception for {kind} any more")


RULES = [seam, seam_exceptions]

PLANTED = {
    "seam": {
        "bad": [{"storage/a.cpp": line + "\n"} for line in (
            "#include <unistd.h>", "#include <sys/stat.h>", "#include <liburing.h>", "#include <mutex>", "#include <random>",
            "#include <ctime>", "#include <filesystem>", "auto t = std::chrono::steady_clock::now();", "int x = rand();",
            "int fd = ::open(path, 0);", "fdatasync(fd);", "auto* home = getenv(name);", "auto t = std::time(nullptr);",
            "std::random_device device;")] +
               [{"reactor/kernel_thing.cpp": "io_uring_submit(&ring);\n"},
                {"tests/sim/disk.cpp": "auto t = std::chrono::system_clock::now();\n"}],
        "good": [
            {"storage/a.cpp": "file.read(data); auto t = reactor.now(); // rand() and ::open( are banned\n"},
            {"storage/a.cpp": "auto day = std::chrono::sys_days{days}; log.open(path); Nanos leader_time(int);\n"},
            {"reactor/uring_kernel.cpp": "#include <liburing.h>\nauto r = io_uring_submit(&ring);\n"},
            {"cli/serve.cpp": "#include <csignal>\n"},
        ],
    },
    "seam_exceptions": {
        "bad": [{"reactor/placement.cpp": "int nothing;\n"}],
        "good": [{"reactor/placement.cpp": "#include <sched.h>\n"}],
    },
}
