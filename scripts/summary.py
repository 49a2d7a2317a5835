#!/usr/bin/env python3
"""Counts what ./test ran: prints what failed and what was skipped, a table of the stages, and the closing line.

usage: summary.py RESULTS
RESULTS/stages.tsv   one line a stage: name, tests|setup, exit status or why it did not run, seconds
RESULTS/STAGE/       junit.xml of ctest, PROGRAM.json of each GoogleTest program, or cases.tsv: passed|failed|skipped, name, why
Exit: 0 if nothing failed, else 1.
"""
import csv
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


def cases_of_program(report):
    """(outcome, name, why) of each case in the report of a GoogleTest program."""
    for suite in report.get("testsuites", []):
        for case in suite.get("testsuite", []):
            name = f"{suite['name']}.{case['name']}"
            if case.get("failures"):
                yield "failed", name, case["failures"][0].get("failure", "").splitlines()[0]
            elif case.get("result") == "SKIPPED":
                why = case.get("skipped", [{}])
                yield "skipped", name, (why[0].get("message", "").splitlines() or [""])[-1]
            elif case.get("status") == "RUN":
                yield "passed", name, ""
            else:
                yield "skipped", name, "not run"


def cases_of_script(output):
    """The same of a Python unittest program, from what it printed; None if that is no such program's."""
    ran = re.findall(r"(?m)^Ran (\d+) tests? in ", output)
    if not ran:
        return None
    failed = [("failed", name, "") for name in re.findall(r"(?m)^(?:FAIL|ERROR): (.*)$", output)]
    skipped = [("skipped", name, why) for name, why in re.findall(r"(?m)^skipped: ([^:\n]*): (.*)$", output)]
    if not skipped:  # a program that does not name them still counts them
        counted = re.search(r"(?m)^(?:OK|FAILED) \(.*?skipped=(\d+)", output)
        skipped = [("skipped", "unnamed", "")] * int(counted[1] if counted else 0)
    passed = max(sum(map(int, ran)) - len(failed) - len(skipped), 0)
    return failed + skipped + [("passed", "", "")] * passed


def cases_of_ctest(folder):
    junit = os.path.join(folder, "junit.xml")
    if not os.path.exists(junit):
        return
    for test in ElementTree.parse(junit).getroot().iter("testcase"):
        name, failed = test.get("name"), test.get("status") == "fail"
        try:
            with open(os.path.join(folder, name + ".json"), encoding="utf-8") as file:
                cases = list(cases_of_program(json.load(file)))
        except (OSError, ValueError):  # not a GoogleTest program, or one that ended before it could report
            cases = cases_of_script(test.findtext("system-out") or "")
        if cases is None:
            if failed:
                yield "failed", name, "the program failed or crashed: see the log"
            elif test.get("status") == "run":
                yield "passed", name, ""
            else:
                yield "skipped", name, test.get("status", "")
            continue
        yield from ((outcome, f"{name}: {case}", why) for outcome, case, why in cases)
        if failed and not any(outcome == "failed" for outcome, _, _ in cases):
            yield "failed", name, "its cases passed, the program did not: see the log"
        if not cases:
            yield "failed", name, "it ran no case"


def cases_of_stage(folder):
    cases = list(cases_of_ctest(folder))
    table = os.path.join(folder, "cases.tsv")
    if os.path.exists(table):
        with open(table, encoding="utf-8", newline="") as file:
            cases += [tuple((row + ["", ""])[:3]) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    return cases


def verdict(name, kind, status, cases):
    """The stage's cases, with what its exit status says beyond them."""
    cases = list(cases)
    failures = sum(outcome == "failed" for outcome, _, _ in cases)
    if status not in ("0",) and not failures and not status.startswith("not run"):
        cases.append(("failed", name, f"the stage ended with status {status}: see its log"))
    if kind == "tests" and status == "0" and not any(outcome != "skipped" for outcome, _, _ in cases):
        cases.append(("failed", name, "it ran no test"))
    return cases


def summarise(results):
    rows, everything = [], []
    with open(os.path.join(results, "stages.tsv"), encoding="utf-8") as file:
        stages = [line.rstrip("\n").split("\t") for line in file]
    for name, kind, status, seconds in stages:
        cases = verdict(name, kind, status, cases_of_stage(os.path.join(results, name)))
        counts = {word: sum(outcome == word for outcome, _, _ in cases) for word in ("passed", "failed", "skipped")}
        rows.append((name, kind, status, seconds, counts))
        everything += [(outcome, name, case, why) for outcome, case, why in cases]
    return rows, everything


def main(results):
    rows, everything = summarise(results)
    for outcome in ("skipped", "failed"):
        listed = [case for case in everything if case[0] == outcome]
        if listed:
            print(f"\n{outcome}:")
        for _, stage, case, why in listed:
            print(f"  {stage}: {case}{': ' + why if why else ''}")
    print(f"\n{'stage':<16}{'seconds':>8}{'passed':>8}{'failed':>8}{'skipped':>8}")
    for name, kind, status, seconds, counts in rows:
        if kind == "setup" and not any(counts.values()):
            print(f"{name:<16}{seconds:>8}{'  ' + status if status != '0' else ''}")
        else:
            numbers = "".join(f"{counts[word]:>8}" for word in ("passed", "failed", "skipped"))
            print(f"{name:<16}{seconds:>8}{numbers}{'  ' + status if status.startswith('not') else ''}")
    print(f"{'in all':<16}{sum(int(row[3]) for row in rows):>8}\n")
    total = {word: sum(row[4][word] for row in rows) for word in ("passed", "failed", "skipped")}
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    not_run = any(row[2].startswith("not run") for row in rows)
    return 1 if total["failed"] or not_run or not total["passed"] else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
