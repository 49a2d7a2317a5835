"""Reading source files for the rules: which files there are, C++ without its comments and strings, lengths of functions."""
import ast
import os
import re
import subprocess

CPP = (".cc", ".h", ".cpp", ".hpp", ".c", ".cl", ".cu")


def files_of(root):
    """Paths, relative to root, of what git tracks or would track; every file but build/ where there is no git."""
    try:
        listed = subprocess.run(["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                capture_output=True, check=True).stdout.decode(errors="surrogateescape")
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for base, folders, files in os.walk(root):
            folders[:] = [f for f in folders if f not in (".git", "build", "__pycache__")]
            names += [os.path.relpath(os.path.join(base, f), root) for f in files]
    return sorted(name for name in set(names) if os.path.isfile(os.path.join(root, name)))


TOKENS = re.compile(r"""
    (?P<raw>  R"(?P<tag>[^()\s\\"]{0,16})\(.*?\)(?P=tag)" )
  | (?P<line> //(?:\\\n|[^\n])* )
  | (?P<block> /\*.*?\*/ )
  | (?P<string> "(?:\\.|[^"\\\n])*" )
  | (?P<number> \b\d[\w']* )                      # 1'000'000 is no character
  | (?P<char> '(?:\\.|[^'\\\n])*' )
""", re.VERBOSE | re.DOTALL)


def blanked(text):
    """The same text, equally long, with comments gone and the insides of strings and characters blank."""
    def blank(match):
        kind, found = match.lastgroup, match.group()
        if kind == "number":
            return found
        if match.group("raw") or match.group("string") or match.group("char"):
            return found[0] + re.sub(r"[^\n]", " ", found[1:-1]) + found[-1] if not match.group("raw") else '"' + re.sub(r"[^\n]", " ", found[1:-1]) + '"'
        return re.sub(r"[^\n]", " ", found)
    return TOKENS.sub(blank, text)


def without_comments(text):
    """The same text, equally long, with comments blank and strings as they were."""
    return TOKENS.sub(lambda m: re.sub(r"[^\n]", " ", m.group()) if m.group("line") or m.group("block") else m.group(), text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum)\b[^()=]*$|\bextern\s*$|\bextern\s+\"\s*\"\s*$")


def cpp_functions(text):
    """(name, first line, number of lines) of each function and lambda with a body. A simple scan: it knows braces, not C++."""
    code = re.sub(r"(?m)^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m.group()), blanked(text))
    found, stack, begin = [], [], 0  # stack: (is a function's body, where its statement begins)
    for match in re.finditer(r"[{};]", code):
        at, mark = match.start(), match.group()
        if mark == ";":
            if code.count("(", begin, at) <= code.count(")", begin, at):  # not inside the head of a for
                begin = at + 1
        elif mark == "{":
            head = code[begin:at]
            control = re.match(r"\s*(?:else\s+)?(?:if|for|while|switch|do|try|catch|else)\b", head)
            body = "(" in head and not control and not CONTAINER.search(head) and re.search(r"[\w)\]>}]\s*$", head)
            stack.append((bool(body), begin, head))
            begin = at + 1
        elif stack:
            is_body, start, head = stack.pop()
            if is_body:
                first = line_of(code, start + len(head) - len(head.lstrip()))
                name = re.search(r"([\w:~]+)\s*\(", head)
                found.append((name.group(1) if name else "lambda", first, line_of(code, at) - first + 1))
            after = code[at + 1:].lstrip()[:1]
            begin = start if after in (",", "{", ")") else at + 1  # a brace inside an expression ends no statement
    return found


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1
