#!/usr/bin/env python3
"""What the command says of drivers that are absent, broken, hang or die: a clear line, and never an end of its own.

usage: drivers_test.py BUSBAR
The drivers are made here with cc: each is a library that the system's OpenCL loader calls.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

BUSBAR = ""
# The loader asks each driver for this function, then calls it to list platforms.
DRIVER = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int clIcdGetPlatformIDsKHR(unsigned n, void** platforms, unsigned* count) { %s return 0; }
int clGetPlatformInfo(void* platform, unsigned what, size_t size, void* value, size_t* needed) { return -30; }
void* clGetExtensionFunctionAddress(const char* name) {
    if (strcmp(name, "clIcdGetPlatformIDsKHR") == 0) return (void*)clIcdGetPlatformIDsKHR;
    return strcmp(name, "clGetPlatformInfo") == 0 ? (void*)clGetPlatformInfo : 0;
}
"""
FAULTS = {
    "abort": "abort();",
    "crash": "*(volatile int*)16 = 1;",
    "hang": "for (;;) sleep(1);",
    "leave": "_exit(3);",
    "none": "if (count) *count = 0;",
}


class Drivers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="busbar-drivers-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.vendors = os.path.join(self.folder, "vendors")
        os.mkdir(self.vendors)

    def run_busbar(self, *arguments, **extra):
        environment = dict(os.environ, OCL_ICD_VENDORS=self.vendors + "/", BUSBAR_CACHE=self.folder,
                           BUSBAR_PROBE_SECONDS="1", **extra)
        return subprocess.run([BUSBAR, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False)

    def install(self, fault):
        library = os.path.join(self.folder, f"lib{fault}.so")
        source = os.path.join(self.folder, "driver.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write(DRIVER % FAULTS[fault])
        subprocess.run(["cc", "-shared", "-fPIC", "-w", "-o", library, source], check=True)
        with open(os.path.join(self.vendors, "driver.icd"), "w", encoding="utf-8") as file:
            file.write(library + "\n")

    def opencl_row(self):
        done = self.run_busbar("chips", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {row["chip"]: row for row in json.loads(done.stdout)}
        self.assertTrue(rows["cpu"]["usable"])
        self.assertFalse(rows["opencl"]["usable"])
        return rows["opencl"]["why"]

    def test_without_any_driver(self):
        self.assertIn("no driver", self.opencl_row())
        doctor = self.run_busbar("doctor")
        self.assertIn("ok    no chip opencl", doctor.stdout)
        run = self.run_busbar("bench", "/nonexistent.gguf", "--chip", "opencl")
        self.assertIn(run.returncode, (3, 4))

    def test_a_driver_whose_file_is_missing(self):
        with open(os.path.join(self.vendors, "gone.icd"), "w", encoding="utf-8") as file:
            file.write("/nonexistent/libgone.so\n")
        self.assertIn("expected a device, got none", self.opencl_row())

    def test_drivers_that_die_or_hang(self):
        for fault, words in (("abort", "killed by signal 6"), ("crash", "killed by signal 11"), ("hang", "took longer"),
                             ("leave", "exited with 3"), ("none", "expected a device, got none")):
            self.install(fault)
            begin = time.time()
            self.assertIn(words, self.opencl_row(), fault)
            self.assertLess(time.time() - begin, 20, fault)

    def test_a_library_that_is_none(self):
        with open(os.path.join(self.folder, "libOpenCL.so.1"), "w", encoding="utf-8") as file:
            file.write("not a library")
        why = self.run_busbar("chips", "--json", LD_LIBRARY_PATH=self.folder)
        rows = {row["chip"]: row for row in json.loads(why.stdout)}
        self.assertIn("opencl", rows["opencl"]["why"])
        self.assertEqual(why.returncode, 0)

    def test_numbers_after_the_colon(self):
        for chip in ("opencl:x", "opencl:-1"):
            done = self.run_busbar("conform", "--chip", chip)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("expected a device's number", done.stderr)


if __name__ == "__main__":
    BUSBAR = sys.argv.pop(1)
    unittest.main(verbosity=2)
