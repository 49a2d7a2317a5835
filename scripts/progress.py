#!/usr/bin/env python3
"""Runs ninja and says how far it is and how long it will take; shows its words only where something fails.

usage: progress.py ninja ARGUMENTS...
Exit: ninja's own status.
"""
import re
import subprocess
import sys
import time

EVERY_SECONDS = 10


def main(command):
    terminal = sys.stderr.isatty()
    begin = last = time.monotonic()
    kept, failed, done, total = [], False, 0, 0
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace")
    try:
        for line in process.stdout:
            step = re.match(r"\[(\d+)/(\d+)\] ", line)
            failed = failed or line.startswith(("FAILED:", "ninja: error"))
            if failed:
                print(line, end="", file=sys.stderr, flush=True)
            elif step:
                kept = [line]
            else:
                kept.append(line)  # a warning, or why CMake could not configure: worth reading only if this ends badly
            if not step:
                continue
            done, total = int(step[1]), int(step[2])
            now = time.monotonic()
            if not failed and now - last >= (0.5 if terminal else EVERY_SECONDS) and done < total:
                last = now
                left = (now - begin) * (total - done) / done if done else 0
                text = f"  built {done} of {total} files, {now - begin:.0f} s so far, about {left:.0f} s to go"
                print(("\r\033[K" if terminal else "") + text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()
        status = 130
    if terminal:
        print("\r\033[K", end="", file=sys.stderr)
    if status and not failed:
        print("".join(kept[-60:]), end="", file=sys.stderr)
    if not status and done:
        print(f"  built {done} of {total} files in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__.strip())
        sys.exit(2)
    sys.exit(main(sys.argv[1:]))
