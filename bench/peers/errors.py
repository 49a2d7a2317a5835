"""Logit error of each program against its own f32 arithmetic on the same weights, on the same text.

Windows, and which positions count, are those of llama-perplexity: windows of 512 tokens, each a sequence of its own
whose first token is the model's begin token where it has one; the second half of each counts.
"""
import json
import os
import subprocess

import programs

WINDOW = 512


def of_busbar(busbar, text_file, windows):
    """The model as planned against --numerics strict --order invariant."""
    command = [busbar.path, "bench", busbar.model, "-p", "1", "-n", "1", "--repeat", "1", "--error-text", text_file, "--error-positions",
               str(windows * WINDOW), "--numerics", busbar.numerics, "--threads", str(busbar.threads), "--json", "--quiet", *busbar.arguments]
    told = programs.parsed(command, programs.run(command))["logit_error"]
    half = told["second_halves"]
    if told["broken"] > 0:
        return {"program": "Busbar", "why_not": f"{told['broken']} positions are not finite"}
    if half["positions"] == 0:
        return {"program": "Busbar", "why_not": f"the text has {told['positions']} tokens, or the model too short a context: no window of {WINDOW}"}
    return {"program": "Busbar", "mean_kl": half["mean_kl"], "other_first_percent": 100 * half["other_first"] / half["positions"],
            "how": f"--numerics {busbar.numerics} against {told['against']}; {half['positions']} positions, the 256 largest logits and the rest"}


def of_llama(peer, text_file, windows, work):
    """The file as it is against the same weights written out in f32, by the program's own tools."""
    quantize, perplexity = (os.path.join(peer.folder, n) for n in ("llama-quantize", "llama-perplexity"))
    for tool in (quantize, perplexity):
        if not os.access(tool, os.X_OK):
            return {"program": peer.name, "why_not": f"no {os.path.basename(tool)}"}
    exact, base = os.path.join(work, "f32.gguf"), os.path.join(work, "f32.logits")
    try:
        programs.run([quantize, "--allow-requantize", peer.model, exact, "F32", str(peer.threads)])
        shape = ["-f", text_file, "-c", str(WINDOW), "-b", str(WINDOW), "--chunks", str(windows), "-t", str(peer.threads)]
        programs.run([perplexity, "-m", exact, *shape, "-ctk", "f32", "-ctv", "f32", "--kl-divergence-base", base])
        command = [perplexity, "-m", peer.model, *shape, "--kl-divergence-base", base, "--kl-divergence",
                   *[a for a in peer.arguments if a == "-rtr"]]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=3600, check=False)
        mean, other = programs.kl_of(done.stdout + done.stderr)
    except programs.Trouble as trouble:
        return {"program": peer.name, "why_not": str(trouble).replace("|", "/").replace("\n", " ")[:300]}
    finally:
        for path in (exact, base):
            if os.path.exists(path):
                os.remove(path)
    return {"program": peer.name, "mean_kl": mean, "other_first_percent": other,
            "how": f"llama-perplexity against its f32 (f32 cache); base logits kept in 16 bits; {windows} windows"}


def save(path, report):
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
    os.replace(path + ".part", path)
