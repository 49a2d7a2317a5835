#!/usr/bin/env python3
"""The conformance kit on more OpenCL implementations than the one that the system has, and on their smaller settings.

usage: makers_test.py TEST_CONFORMANCE
Always: PoCL with 1 GiB of memory and the kernels as a GPU without doubles gets them. With BUSBAR_OPENCL_MAKERS=1 (.ci/run): the ops
that depend most on a compiler on Intel's runtime for processors, fetched by scripts/fetch.py. With BUSBAR_MORE=1 (./test --more): all ops
there, with sub-groups of 4 and with 32 KiB of local memory too, and Oclgrind, which interprets every kernel and reports data races
and accesses outside buffers. What is absent or not asked for is printed.
Exit: 0 all that ran agreed, 1 not.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
OCLGRIND = "/usr/lib/oclgrind/liboclgrind-rt-icd.so"
POCL = "/etc/OpenCL/vendors/pocl.icd"
# Oclgrind interprets each work-item: the sums over 4,096 numbers that these have take minutes.
# PoCL compiles a program in a second or more: a few ops whose kernels depend on the shape; all where more is asked for.
SHAPED = ":".join(f"Ops/Conformance.agrees_with_the_oracle/{op}" for op in
                  ("softmax", "sum", "rotary_table"))
# What a second compiler is most likely to get wrong: products, attention, norms, the cache.
COMPILED = ":".join(f"Ops/Conformance.agrees_with_the_oracle/{op}" for op in
                    ("matmul", "multi_matmul", "attention", "add_rms_norm", "cache_append", "gather_rows"))
AS_GPU = {"BUSBAR_OPENCL_SHAPE": "gpu", "BUSBAR_OPENCL_NO_FP64": "1"}
SMALL = "Ops/Conformance.agrees_with_the_oracle/*:-*/matmul:*/cache_append"
COMPLAINTS = re.compile(r"race|Invalid (read|write)|Uninitialized|Unaligned", re.IGNORECASE)


def run(label, program, tests, environment):
    begin = time.time()
    done = subprocess.run([program, f"--gtest_filter={tests}"], capture_output=True, text=True, check=False,
                          env=dict(os.environ, **environment))
    output = done.stdout + done.stderr
    chips = [line for line in output.splitlines() if re.match(r"\w+ +opencl", line)]
    # Some makers' libraries end badly after main: what counts is what was tested.
    passed = re.search(r"\[  PASSED  \] (\d+) tests", output) and "[  FAILED  ]" not in output
    complaints = [line for line in output.splitlines() if COMPLAINTS.search(line)]
    good = bool(passed and chips and not complaints)
    print(f"{'ok  ' if good else 'FAIL'} {label}: {len(chips)} ops ran on it, {time.time() - begin:.0f} s", flush=True)
    if not good:
        print("\n".join(complaints[:20]))
        print(output[-4000:] if not passed else "no op ran on the device" if not chips else "")
    return good


def vendors(folder, library):
    path = os.path.join(folder, "vendors")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "driver.icd"), "w", encoding="utf-8") as file:
        file.write(library + "\n")
    return path + "/"


def main(arguments):
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 2
    program, good = arguments[0], True
    all_of_it = os.environ.get("BUSBAR_MORE")
    more = all_of_it or os.environ.get("BUSBAR_OPENCL_MAKERS")
    if os.path.exists(POCL):
        good &= run("PoCL with 1 GiB, kernels as for a GPU", program, "Ops/*" if all_of_it else SHAPED,
                    dict(AS_GPU, POCL_MEMORY_LIMIT="1"))
    else:
        print("absent: PoCL (apt-get install pocl-opencl-icd)")
    if not more:
        print("not asked for: Intel's runtime and Oclgrind (./test --more)")
        return 0 if good else 1
    work = tempfile.mkdtemp(prefix="busbar-makers-")
    try:
        fetched = subprocess.run([sys.executable, os.path.join(TREE, "scripts", "fetch.py"), "opencl"], stdout=subprocess.PIPE,
                                 text=True, check=False)
        if fetched.returncode == 0:
            folder = fetched.stdout.strip()
            intel = {"OCL_ICD_VENDORS": os.path.join(folder, "vendors") + "/", "LD_LIBRARY_PATH": folder, "BUSBAR_CACHE": work}
            settings = [("", {}), (" with sub-groups of 4", {"CL_CONFIG_CPU_TARGET_ARCH": "corei7"}),
                        (" with 32 KiB of local memory", {"CL_CONFIG_CPU_FORCE_LOCAL_MEM_SIZE": "32KB"})]
            for label, extra in settings if all_of_it else settings[:1]:
                good &= run("Intel's runtime" + label, program, "Ops/*" if all_of_it else COMPILED, dict(intel, **extra))
        else:
            print("absent: Intel's runtime (could not be fetched)")
        if not all_of_it:
            print("not asked for: Intel's smaller settings and Oclgrind (./test --more)")
        elif os.path.exists(OCLGRIND):
            good &= run("Oclgrind, kernels as for a GPU", program, SMALL,
                        dict(AS_GPU, OCL_ICD_VENDORS=vendors(work, OCLGRIND), BUSBAR_CACHE=work, OCLGRIND_DATA_RACES="1"))
        else:
            print("absent: Oclgrind (apt-get install oclgrind)")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
