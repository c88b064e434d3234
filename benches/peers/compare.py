"""Times arcsm, PyTorch and Burn in turn, round after round, and prints one table with the ratios of the medians.

Called by run.sh, which builds all three. The peers are started once and answer requests (see pytorch/bench.py); arcsm-bench
is started for each measurement. Needs nothing but Python's own library.
"""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys

SIZES = {"dimensions": 784, "hidden": [512, 512], "context": 8, "batch": 128}
CONTEXT = ["--context", str(SIZES["context"])]
LANGEVIN = {**SIZES, "case": "sample-langevin", "levels": 10, "steps": 10, "slice": 28, "contexts": "full"}
NEEDED = {**LANGEVIN, "contexts": "needed"}


class Case:
    """One row of the table. `arcsm`: arguments of arcsm-bench, `record`: which of its records; a peer's request, or none.
    Goals: how many times as fast as each peer arcsm is meant to be."""

    def __init__(self, name, arcsm, pytorch, burn=None, record=0, images=None, goals=(None, None)):
        self.name, self.arcsm, self.record, self.images = name, arcsm, record, images
        self.requests = {"pytorch": pytorch, "burn": burn}
        self.goals = dict(zip(self.requests, goals))


def train_step(objective, goals):
    request = {**SIZES, "case": "train-step", "objective": objective}
    arguments = ["train-step", *CONTEXT, "--objective", objective, "--row-stride", "1"]
    return Case(f"training step, {objective}", arguments, request, request, goals=goals)


def gemm(name, record, goals):
    request = {"case": "gemm-forward", "batch": 128, "n_in": 1024, "n_out": 1024}
    arguments = ["gemm-forward", "--layer", "1024", "1024"]
    return Case(f"dense layer 128 x 1024 x 1024, {name}", arguments, request, request, record, goals=goals)


def sampling(sampler, batch, goal, request, note):
    arguments = [sampler, *CONTEXT, "--count", str(batch), "--warm-up", "0"]
    arguments += ["--evaluations", "100"] if sampler == "sample-langevin" else []
    name = "Langevin, 100 evaluations" if sampler == "sample-langevin" else "arcsm's default sampler"
    name = f"images by {batch}, {name} ({note})"
    return Case(name, arguments, {**request, "batch": batch}, images=batch, goals=(goal, None))


CASES = [
    train_step("csm", (1.3, 4)),
    train_step("dsm", (1.1, 4)),
    gemm("unmasked", 0, (45 / 167, None)),
    gemm("masked", 1, (None, None)),
    sampling("sample-langevin", 100, 8, LANGEVIN, "PyTorch: whole context passes"),
    sampling("sample-langevin", 16, 30, LANGEVIN, "PyTorch: whole context passes"),
    sampling("sample-langevin", 100, None, NEEDED, "PyTorch: only the outputs needed"),
    sampling("sample-mlq", 100, 16, LANGEVIN, "PyTorch: Langevin, whole passes"),
    sampling("sample-mlq", 16, 60, LANGEVIN, "PyTorch: Langevin, whole passes"),
]


class Peer:
    """A program that answers requests, a line each."""

    def __init__(self, command):
        pipe = subprocess.PIPE
        # glibc would give large blocks back to the system after every operation, and PyTorch pays for fresh pages each time.
        keep_memory = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**keep_memory, **os.environ})
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare: {self.process.args[-1]} stopped without an answer (exit status {self.process.wait()})")
        return json.loads(line)

    def time(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Arcsm:
    """arcsm-bench, a process for each measurement. Cases that need the same one share it within a round."""

    def __init__(self, command, adapter):
        self.command, self.adapter = command, ["--adapter", adapter] if adapter else []
        self.environment, self.records = None, {}

    def begin_round(self):
        self.records.clear()

    def time(self, case):
        if tuple(case.arcsm) not in self.records:
            self.records[tuple(case.arcsm)] = self.run(case.arcsm)
        record = self.records[tuple(case.arcsm)][case.record]
        return {"seconds": record["seconds"]["median"], "how": record["sizes"]}

    def run(self, words):
        arguments = [*self.command, *words, *self.adapter, "--repetitions", "1", "-o", "json"]
        run = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if run.returncode:
            sys.exit(f"compare: {shlex.join(arguments)}: {run.stderr.strip()}")
        answer = json.loads(run.stdout)
        self.environment = answer["environment"]
        return answer["records"]


def measure(cases, arcsm, peers, rounds):
    """{case name: {who: [answers]}}, one after another within a round, so that all meet the same load."""
    answers = {case.name: {"arcsm": []} | {who: [] for who in peers} for case in cases}
    for number in range(rounds):
        arcsm.begin_round()
        for case in cases:
            answers[case.name]["arcsm"].append(arcsm.time(case))
            for who, peer in peers.items():
                if case.requests[who]:
                    answers[case.name][who].append(peer.time(case.requests[who]))
            seconds = {who: round(each[-1]["seconds"], 4) for who, each in answers[case.name].items() if each}
            print(f"round {number + 1} of {rounds}: {case.name}: {seconds} s", file=sys.stderr, flush=True)
    return answers


def digits(milliseconds):
    """Three of them, and never an exponent."""
    return f"{milliseconds:.3g}" if milliseconds < 100 else f"{milliseconds:.0f}"


def cells(case, answers):
    median = {who: statistics.median(answer["seconds"] for answer in each) for who, each in answers.items() if each}

    def shown(who):
        if who not in median:
            return "-"
        if case.images:
            return f"{60 * case.images / median[who]:.0f} a minute"
        seconds = [1e3 * answer["seconds"] for answer in answers[who]]
        return f"{digits(1e3 * median[who])} ms ({digits(min(seconds))} to {digits(max(seconds))})"

    row = [case.name, shown("arcsm")]
    for who in answers:
        if who == "arcsm":
            continue
        goal = case.goals[who]
        ratio = f"{median[who] / median['arcsm']:.2f}" if who in median else "-"
        row += [shown(who), ratio, f"{goal:.2g}" if goal else "-"]
    return row


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def report(cases, answers, arcsm, peers, rounds, load, note):
    environment = arcsm.environment
    adapter = environment["adapter"]
    names = {"pytorch": "PyTorch", "burn": "Burn"}
    headings = ["", "arcsm"]
    for who in peers:
        headings += [names[who], f"{names[who]} / arcsm", "goal"]
    rows = [headings, ["---"] + ["--:"] * (len(headings) - 1)]
    rows += [cells(case, answers[case.name]) for case in cases]
    lines = [
        f"arcsm {environment['version']} at commit {environment['commit']} on {adapter['name']}, {adapter['driver']}; "
        + "; ".join(peer.about["name"] for peer in peers.values())
        + f"; {processor()}, {os.cpu_count()} threads; {datetime.date.today()}; {rounds} rounds in turn, medians; "
        + f"load before: {load:.1f}.{' ' + note if note else ''}",
        "",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "A ratio above 1: arcsm is that many times as fast. Ways that the peers took, each the fastest of those tried:",
        "",
    ]
    for case in cases:
        ways = [f"{names[who]}: {answers[case.name][who][0]['how']}" for who in peers if answers[case.name][who]]
        lines.append(f"- {case.name}: {'; '.join(ways)}" if ways else f"- {case.name}: no peer")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Times arcsm, PyTorch and Burn in turn on this machine.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measurements of each [default: 5]")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their name")
    parser.add_argument("--adapter", metavar="NAME", help="arcsm's adapter; Burn's is chosen by CUBECL_WGPU_DEFAULT_DEVICE")
    parser.add_argument("--cuda", action="store_true", help="PyTorch on the GPU")
    parser.add_argument("--without", action="append", default=[], choices=["pytorch", "burn"], help="leave a peer out")
    parser.add_argument("--prefix", default="", metavar="COMMAND", help="put before each program, such as 'chrt -f 10' "
                        "(as root) where others use the machine")
    parser.add_argument("--note", default="", help="a sentence for the table's first line")
    parser.add_argument("-o", "--out", type=pathlib.Path, metavar="FILE.md", help="write the table there, too")
    parser.add_argument("--arcsm-bench", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--python", help=argparse.SUPPRESS)
    parser.add_argument("--burn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name]
    if not cases or options.rounds < 1:
        names = "\n  ".join(case.name for case in CASES)
        parser.error(f"nothing to measure: --rounds is at least 1, and --only fits one of\n  {names}")
    prefix = shlex.split(options.prefix)
    load = os.getloadavg()[0]
    here = pathlib.Path(__file__).parent
    device = ["cuda"] if options.cuda else []
    commands = {"pytorch": [options.python, str(here / "pytorch" / "bench.py"), *device], "burn": [options.burn, "serve"]}
    peers = {who: Peer([*prefix, *command]) for who, command in commands.items() if who not in options.without}
    arcsm = Arcsm([*prefix, options.arcsm_bench], options.adapter)
    answers = measure(cases, arcsm, peers, options.rounds)
    for peer in peers.values():
        peer.close()
    text = report(cases, answers, arcsm, peers, options.rounds, load, options.note)
    print(text, end="")
    if options.out:
        temporary = options.out.with_suffix(".partial")
        temporary.write_text(text)
        temporary.replace(options.out)


if __name__ == "__main__":
    main()
