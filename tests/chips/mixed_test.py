#!/usr/bin/env python3
"""One model over several unlike chips in one process, chips that are lost or refused on the way: usage mixed_test.py BUSBAR.
The default model is read where BUSBAR_DEFAULT_MODEL says. OpenCL takes part where there is a device; with BUSBAR_MORE=1 or
BUSBAR_OPENCL_MAKERS=1 a second maker's (scripts/fetch.py opencl). What is absent is printed.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

BUSBAR = os.path.abspath(sys.argv.pop(1))
TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
MODEL = os.environ.get("BUSBAR_DEFAULT_MODEL", "")
POCL = "/etc/OpenCL/vendors/pocl.icd"
MORE = os.environ.get("BUSBAR_MORE") or os.environ.get("BUSBAR_OPENCL_MAKERS")
FAULTY = f"plugin:{os.path.dirname(BUSBAR)}/libbusbar_chip_faulty.so"


def busbar(*arguments, environment=None, timeout=300):
    done = subprocess.run([BUSBAR, *arguments], capture_output=True, text=True, timeout=timeout, check=False, env=environment)
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else None, done.stderr


def run(chip, *more, environment=None):
    return busbar("run", MODEL, "--chip", chip, "-p", "Name three rivers.", "-n", "12", "--temperature", "0", "--numerics", "strict",
                  "--json", *more, environment=environment)


def makers(folder):
    """Environment in which OpenCL shows every implementation that is here, and how many there are."""
    environment = dict(os.environ, BUSBAR_CACHE=os.path.join(folder, "cache"))
    if not os.path.exists(POCL):
        print("absent: PoCL (apt-get install pocl-opencl-icd)")
        return environment, 0
    if not MORE:
        print("not asked for: a second maker's OpenCL (./test --more)")
        return environment, 1
    fetched = subprocess.run([sys.executable, os.path.join(TREE, "scripts", "fetch.py"), "opencl"], stdout=subprocess.PIPE, text=True,
                             check=False)
    if fetched.returncode != 0:
        print("absent: a second maker's OpenCL (could not be fetched)")
        return environment, 1
    second, vendors = fetched.stdout.strip(), os.path.join(folder, "vendors")
    shutil.copytree(os.path.join(second, "vendors"), vendors)
    shutil.copy(POCL, os.path.join(vendors, "a-pocl.icd"))
    environment.update(OCL_ICD_VENDORS=vendors + "/", LD_LIBRARY_PATH=second)
    return environment, 2


@unittest.skipUnless(MODEL, "BUSBAR_DEFAULT_MODEL names no model")
class Mixed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="busbar-mixed-")
        cls.environment, cls.makers = makers(cls.folder)
        cls.alone = run("cpu", "--gate", "off")[1]["tokens"]

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def test_several_makers_in_one_process(self):
        chips = ["cpu", f"{FAULTY}?fault=none"] + [f"opencl:{i}" for i in range(self.makers)]
        size = 30 // len(chips)
        split = ",".join(f"{chip}:{i * size}-{29 if i == len(chips) - 1 else (i + 1) * size - 1}" for i, chip in enumerate(chips))
        arguments = (",".join(chips), "--split", split, "--no-fallback")
        code, told, err = run(*arguments, environment=self.environment)
        self.assertEqual(code, 0, err)
        self.assertIn("gate passed", err)
        self.assertEqual(told["tokens"], self.alone)
        placement = told["placement"]
        self.assertEqual(len(placement["nodes"]), len(chips), placement)
        self.assertEqual(placement["copies"], 2 * (len(chips) - 1), placement)  # the residual, and what is added to it
        self.assertEqual(placement["refused"], [])
        self.assertGreater(placement["copied"]["seconds"], 0)
        code, told, err = busbar("verify", MODEL, "--chip", arguments[0], "--split", split, "--positions", "384", "--json",
                                 environment=self.environment)
        self.assertEqual((code, told and told["verdict"]), (0, "agrees"), err)

    def test_a_chip_lost_in_mid_answer_is_planned_around(self):
        for at in ("step=0", "step=5"):
            code, told, err = run(f"{FAULTY}?fault=lost&{at}", "--gate", "off")
            self.assertEqual(code, 0, err)
            self.assertIn("the plan is made again without it", err)
            self.assertEqual(told["tokens"], self.alone)
        code, _, err = run(f"{FAULTY}?fault=lost&step=5", "--gate", "off", "--no-fallback")
        self.assertEqual(code, 4, err)

    def test_the_gate_refuses_a_chip_that_lies_and_names_the_op(self):
        code, told, err = run(f"{FAULTY}?fault=rope_layout&layer=7", environment=self.environment)
        self.assertEqual((code, told), (4, None), err)
        self.assertIn("layer.7.q_rotate", err)
        self.assertIn("--gate off", err)

    def test_a_passed_gate_is_remembered(self):
        first, second = (run("cpu", environment=self.environment)[2] for _ in range(2))
        self.assertIn("gate passed", first)
        self.assertNotIn("gate passed", second)


if __name__ == "__main__":
    unittest.main(verbosity=2)
