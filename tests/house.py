#!/usr/bin/env python3
"""The house rules, read from the source. Prints `file:line: rule` for each breach; exit 1 if any.

The lists below are ratchets: an entry excuses one place with a reason, and an entry that is no longer
needed is itself a breach, so the lists only ever shrink.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

FUNCTION_LINES = 90
FILE_LINES = 900

# "file:function" or "file": why it may be longer.
LONG_FUNCTIONS = {}
LONG_FILES = {}
# "engine/room/module.c": whose face it implements.
HEADERLESS = {
    "engine/ring/listen.c": "ring.h: its calls are part of the ring's face",
    "engine/script/budget.c": "vm.h: the CPU time of a worker thread",
}
# "engine/room/module.c": what stands in for a test of its own.
UNTESTED = {}

# Each room and the rooms that it may include.
BELOW = {
    "base": {"base"},
    "ring": {"base", "ring"},
    "codec": {"base", "codec"},
    "net": {"base", "ring", "codec", "net"},
    "script": {"base", "ring", "codec", "net", "script"},
    "daemon": {"base", "ring", "codec", "net", "script", "daemon"},
}

# A foreign header and the only files of engine and daemon that may include it.
CONFINED = [
    (r"liburing", r"engine/ring/"),
    (r"(lua|lualib|lauxlib|luaconf)\.h", r"engine/script/"),
    (r"openssl/", r"engine/codec/(tls|cert|hash)"),
    (r"ares", r"engine/net/"),
    (r"zlib\.h", r"engine/codec/(ws_)?deflate"),
    (r"json-c/", r"engine/(codec/json|script/bind_json)"),
    (r"systemd/", r"daemon/"),
]

BANNED = [
    (r"\bassert\s*\(", "assert() vanishes with NDEBUG: CS_ASSERT"),
    (r"#\s*include\s*<assert\.h>", "assert() vanishes with NDEBUG: CS_ASSERT"),
    (r"\bv?sprintf\s*\(", "sprintf knows no bounds: snprintf"),
    (r"\b(strcpy|strcat|stpcpy|strncpy|strncat|gets)\s*\(", "unbounded or unterminated copy"),
    (r"\balloca\s*\(", "alloca has no failure: use a bounded array or cs_mem"),
]

breaches = []


def breach(path, line, text):
    breaches.append(f"{path}:{line}: {text}")


def blank(match):
    """Keeps the line count of what it removes."""
    return re.sub(r"[^\n]", " ", match.group())


def code_of(text):
    """The text without comments and without the insides of literals."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text, flags=re.S)


def tree():
    """Every file of ours, as {path from the root: text}."""
    files = {}
    for top in ("engine", "daemon", "tests", "scripts", "conf", "bench", "systemd", "docs"):
        for folder, folders, names in os.walk(os.path.join(ROOT, top)):
            folders[:] = [name for name in folders if name not in ("__pycache__", "results")]
            for name in names:
                if name.endswith((".c", ".h", ".lua", ".py", ".sh", ".md", ".service", ".txt")):
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8", errors="replace") as f:
                        files[os.path.relpath(path, ROOT)] = f.read()
    return files


def room_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "engine" and len(parts) == 3 else parts[0]


def includes(path, text):
    """(line number, header, is it in quotes) of each include."""
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match.group(2), match.group(1) == '"'


def check_directions(files):
    for path, text in files.items():
        room = room_of(path)
        if not path.endswith((".c", ".h")) or room not in BELOW:
            continue
        for number, header, quoted in includes(path, text):
            target = header.split("/")[0] if "/" in header else room
            if quoted and target in BELOW and target not in BELOW[room]:
                breach(path, number, f"{room} may not include {header}: dependencies point down")
            for pattern, home in CONFINED:
                if not quoted and re.match(pattern, header) and not re.match(home, path):
                    breach(path, number, f"<{header}> belongs into {home} only")


def resolve(path, header, files):
    """The file of ours that an include means, or None."""
    for candidate in (f"engine/{header}", header, f"tests/{header}",
                      os.path.normpath(os.path.join(os.path.dirname(path), header))):
        if candidate in files:
            return candidate
    return None


def check_headers(files):
    """No circles of headers, none that nobody includes."""
    graph = {}
    included = set()
    for path, text in files.items():
        if path.endswith((".c", ".h")):
            targets = [resolve(path, header, files) for _, header, quoted in includes(path, text) if quoted]
            graph[path] = [target for target in targets if target]
            included.update(target for target in graph[path] if target != path)
    state = {}

    def visit(path, trail):
        state[path] = "open"
        for target in graph[path]:
            if state.get(target) == "open":
                breach(target, 1, "include circle: " + " -> ".join(trail[trail.index(target):] + [target]))
            elif target not in state:
                visit(target, trail + [target])
        state[path] = "done"

    for path in graph:
        if path not in state:
            visit(path, [path])
        if path.endswith(".h") and path not in included:
            breach(path, 1, "nobody includes this header")


def check_lengths(files):
    long_functions, long_files = set(), set()
    for path, text in files.items():
        if not path.endswith((".c", ".h")):
            continue
        lines = text.split("\n")
        if len(lines) > FILE_LINES:
            long_files.add(path)
            if path not in LONG_FILES:
                breach(path, FILE_LINES, f"{len(lines)} lines; at most {FILE_LINES} in a file")
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                length = number - start + 1
                if length > FUNCTION_LINES:
                    key = f"{path}:{function_name(lines, start)}"
                    long_functions.add(key)
                    if key not in LONG_FUNCTIONS:
                        breach(path, start, f"{key} has {length} lines; at most {FUNCTION_LINES}")
                start = None
    for key in set(LONG_FUNCTIONS) - long_functions | set(LONG_FILES) - long_files:
        breach("tests/house.py", 1, f"{key} is no longer too long: remove it from the list")


def function_name(lines, brace):
    head = ""
    for line in reversed(lines[:brace - 1]):
        if not line or line[0] in "}#/*" or line.endswith(";"):
            break
        head = line + " " + head
    match = re.search(r"(\w+)\s*\(", head)
    return match.group(1) if match else "?"


def check_modules(files):
    """A module of the engine has its header and its test (x_part.c may use x.h and the test of x).

    The script room is tested through what it offers to Lua, by tests/lua, and needs no C test of its own.
    """
    tests = "\n".join(text for path, text in files.items() if re.match(r"tests/(unit|sim)/.*\.[ch]$", path))
    for path in files:
        match = re.match(r"engine/(\w+)/(\w+)\.c$", path)
        if not match:
            continue
        room, module = match.groups()
        parts = module.split("_")
        headers = [f"engine/{room}/{'_'.join(parts[:n])}.h" for n in range(len(parts), 0, -1)]
        if path not in HEADERLESS and not any(header in files for header in headers):
            breach(path, 1, "a module has a header of its own name")
        tested = (f"tests/unit/{room}_{module}.c" in files
                  or any(f'"{header.removeprefix("engine/")}"' in tests for header in headers if header in files)
                  or room == "script" and any(p.startswith("tests/lua/") for p in files))
        if not tested and path not in UNTESTED:
            breach(path, 1, f"no test: neither tests/unit/{room}_{module}.c nor one that includes its header")
        if tested and path in UNTESTED:
            breach("tests/house.py", 1, f"{path} has a test now: remove it from UNTESTED")
    for path in set(UNTESTED) | set(HEADERLESS):
        if path not in files:
            breach("tests/house.py", 1, f"{path} is gone: remove it from the list")


def check_lines(files):
    for path, text in files.items():
        if path == "tests/house.py":
            continue
        for number, line in enumerate(text.split("\n"), 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b(?!.*#\d)", line):
                breach(path, number, "a TODO names an issue (#12), or it is not written")
            if re.search(r"(^|[\s\"'(=:])/(work|home|root|Users)/\w", line):
                breach(path, number, "a path of somebody's machine")
            if path.endswith((".c", ".h")) and "\t" in line:
                breach(path, number, "tab")
        if path.endswith((".c", ".h")):
            for number, line in enumerate(code_of(text).split("\n"), 1):
                for pattern, why in BANNED:
                    if re.search(pattern, line):
                        breach(path, number, why)


def main():
    files = tree()
    for check in (check_directions, check_headers, check_lengths, check_modules, check_lines):
        check(files)
    for line in sorted(breaches):
        print(line)
    print(f"house: {len(files)} files, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
