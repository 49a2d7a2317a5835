#!/usr/bin/env python3
"""Holds the README's table of what works to what the program says of itself.

usage: readme.py [--write] BUSBAR
BUSBAR   the program; asked for `show support --markdown`
--write  puts its answer into README.md instead of comparing
Exit: 0 equal (or written), 1 not.
"""
import difflib
import os
import subprocess
import sys

README = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "README.md")
BEGIN, END = "<!-- support: begin -->\n", "<!-- support: end -->\n"


def main(arguments):
    write = "--write" in arguments
    arguments = [word for word in arguments if word != "--write"]
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 2
    said = subprocess.run([arguments[0], "show", "support", "--markdown"], capture_output=True, text=True, check=False)
    if said.returncode != 0 or not said.stdout.strip():
        print(f"readme.py: {arguments[0]} show support --markdown: exit {said.returncode}\n{said.stderr}")
        return 1
    with open(README, encoding="utf-8") as file:
        text = file.read()
    before, rest = text.split(BEGIN)
    stands, after = rest.split(END)
    if stands == said.stdout:
        return 0
    if write:
        with open(README, "w", encoding="utf-8") as file:
            file.write(before + BEGIN + said.stdout + END + after)
        return 0
    print("".join(difflib.unified_diff(stands.splitlines(True), said.stdout.splitlines(True), "README.md", "busbar show support --markdown")))
    print(f"readme.py: the table is out of date; write it anew: tests/readme.py --write {arguments[0]}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
