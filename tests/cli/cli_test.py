#!/usr/bin/env python3
"""The `busbar` command as people and scripts meet it: flags, streams, exit codes, bad input, signals, the chat.

usage: cli_test.py BUSBAR [unittest arguments, e.g. -v test_run.Greedy]
BUSBAR   the program
Standard library only. Most tests make their own small model; some read what ./test fetches or makes:
BUSBAR_DEFAULT_MODEL, BUSBAR_TINY_MODELS, BUSBAR_LLAMA_VOCABS. Where one is missing, its tests are skipped by name.
BUSBAR_SEED repeats a run's random files; BUSBAR_MORE=1 makes many more of them.
"""
import os
import sys
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import harness  # noqa: E402


def main(arguments):
    if len(arguments) < 2 or arguments[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 2
    harness.BUSBAR = os.path.abspath(arguments[1])
    loader = unittest.TestLoader()
    names = [word for word in arguments[2:] if not word.startswith("-")]
    suite = loader.loadTestsFromNames(names) if names else loader.discover(HERE, "test_*.py")
    verbose = 2 if "-v" in arguments else 1
    try:
        result = unittest.TextTestRunner(verbosity=verbose).run(suite)
    finally:
        harness.clean()
    for test, reason in result.skipped:
        print(f"skipped: {test.id()}: {reason}")
    return 0 if result.wasSuccessful() and result.testsRun > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
