"""Numbers of paired runs: ratio of each round, median, bootstrap interval, Markdown."""
import math
import random
import statistics

RESAMPLES = 10_000


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


def ratio_of_round(ours, theirs):
    """One round is ours, theirs, theirs, ours: what drifts evenly during it cancels."""
    return geometric_mean(ours) / geometric_mean(theirs)


def median_interval(values, seed):
    """Median and its 95 % bootstrap interval (percentiles of the medians of resampled rounds)."""
    source = random.Random(seed)
    medians = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return statistics.median(values), medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]


def spread(values, digits):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} .. {high:.{digits}f})"


def verdict(low, high):
    return "faster" if low > 1 else "SLOWER" if high < 1 else "not told apart"


def markdown(report):
    """What stands in docs/speed.md. Losses are printed like wins: same row, same digits."""
    r = report
    lines = [
        f"### {r['model']}, {r['threads']} threads, {r['date']}", "",
        f"Machine: {r['machine']}. Busbar: {r['busbar']}. Numerics: {r['numerics']}. Bootstrap seed {r['seed']}.",
        f"{r['rounds']} rounds of A B B A; ratio = Busbar / peer, median of the rounds and 95 % interval.", "",
        "| figure | peer | Busbar tok/s | peer tok/s | ratio | interval | |", "|---|---|---|---|---|---|---|"]
    for row in r["rows"]:
        low, high = row["interval"]
        lines.append(f"| {row['figure']} | {row['peer']} | {spread(row['ours'], 1)} | {spread(row['theirs'], 1)} | {row['ratio']:.3f} | "
                     f"{low:.3f} .. {high:.3f} | {verdict(low, high)} |")
    if r["rounds"] < 5:
        lines += ["", "Fewer than 5 rounds: the intervals say little."]
    lines += ["", "| calibrator, measured beside Busbar's runs | median (least .. most) |", "|---|---|"]
    for name, values in r["calibrators"].items():
        lines.append(f"| {name} | {spread(values, 1) if values else 'not measured'} |")
    if r["errors"]:
        lines += ["", f"Logit error against each program's own f32 arithmetic on the same weights: {r['text']}", "",
                  "| program | mean KL, nats | other first token | how |", "|---|---|---|---|"]
        for e in r["errors"]:
            if "why_not" in e:
                lines.append(f"| {e['program']} | not had | not had | {e['why_not']} |")
            else:
                lines.append(f"| {e['program']} | {e['mean_kl']:.2g} | {e['other_first_percent']:.2f} % | {e['how']} |")
    lines += ["", "Programs: " + "; ".join(f"{name}: {what}" for name, what in r["programs"].items()) + "."]
    return "\n".join(lines) + "\n"
