#!/usr/bin/env python3
"""`busbar serve` as clients meet it: every route, streams, limits, attacks, stopping; with the official client where it is there.

usage: serve_test.py BUSBAR [unittest arguments, e.g. -v test_client.Chat]
BUSBAR   the program
Standard library, and the package `openai` from the folder BUSBAR_OPENAI (./test fetches it); without it the tests of the client
are skipped by name. BUSBAR_SEED repeats a run's random requests.
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
    print(f"seed {harness.SEED} (BUSBAR_SEED)")
    loader = unittest.TestLoader()
    names = [word for word in arguments[2:] if not word.startswith("-")]
    suite = loader.loadTestsFromNames(names) if names else loader.discover(HERE, "test_*.py")
    try:
        result = unittest.TextTestRunner(verbosity=2 if "-v" in arguments else 1).run(suite)
    finally:
        harness.clean()
    for test, reason in result.skipped:
        print(f"skipped: {test.id()}: {reason}")
    return 0 if result.wasSuccessful() and result.testsRun > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
