#!/usr/bin/env python3
"""Measures Microtome's networks beside PyTorch on this machine: bench/README.md says what and how.

    bench/run.py [--works confidence-training,…] [--rounds 7] [--threads 2] [--python PYTHON] [--ours PROGRAM]

Needs Python 3.9 and cargo; makes its own environment with torch and numpy in bench/.venv.
"""
import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKS = ["confidence-training", "confidence-inference", "resnet18-training", "resnet18-inference"]
LAYOUTS = ["channels-first", "channels-last"]
# PyTorch's threads look for work for a while after a step; the next program waits until they sleep.
PAUSE_SECONDS = 0.1


class Missing(Exception):
    """Something that the benchmark needs is not there; the message says what to do."""


def checked(command, missing, **options):
    """Runs a command with its output shown; a failure becomes the given advice."""
    print("+", " ".join(map(str, command)), file=sys.stderr, flush=True)
    try:
        subprocess.run(command, check=True, stdout=sys.stderr, **options)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"{missing}\n({error})") from error


def python_with_torch(given):
    """An interpreter that has torch: the given one, or that of bench/.venv, which is made where it is not there."""
    if given:
        checked([given, "-c", "import torch"], f"{given} cannot import torch: pip install torch there, or leave out --python.")
        return given
    folder = HERE / ".venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        checked([sys.executable, "-m", "venv", folder],
                "This Python cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv.")
        checked([python, "-m", "pip", "install", "--quiet", "torch", "numpy"],
                "pip could not install torch: is there a network, and room for about 6 GB in bench/.venv? "
                "An environment that has torch can be named with --python.")
        (folder / "complete").touch()
    return python


def built_program(given):
    """Our program: the given one, or built by cargo."""
    if given:
        if not Path(given).is_file():
            raise Missing(f"{given} is not there: build it, or leave out --ours.")
        return given
    if not shutil.which("cargo"):
        raise Missing("cargo is not on the PATH: https://rustup.rs installs it; --ours names a program already built.")
    root = HERE.parent
    checked(["cargo", "build", "--release", "-p", "microtome-nets", "--example", "network_speed", "--locked"],
            "cargo could not build the example network_speed of microtome-nets; its message is above.", cwd=root)
    metadata = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    target = json.loads(subprocess.run(metadata, cwd=root, check=True, capture_output=True).stdout)["target_directory"]
    return Path(target) / "release" / "examples" / ("network_speed.exe" if os.name == "nt" else "network_speed")


class Runner:
    """One program that waits with its network in memory and makes a step when told to."""

    def __init__(self, name, command, threads):
        self.name, self.seconds, self.end = name, [], {}
        # Rayon and OpenMP read the number of threads here too, in case a program does not pass it on.
        environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.expect("ready")

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise Missing(f"{self.name} ended early with exit code {self.process.wait()}; its message is above.")
        return line.strip()

    def expect(self, word):
        line = self.line()
        if line != word:
            raise Missing(f"{self.name} said {line!r} where {word!r} was expected.")

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        self.seconds.append(json.loads(self.line())["seconds"])

    def finish(self):
        self.process.stdin.close()
        self.end = json.loads(self.line())
        self.process.wait()

    def result(self):
        return {
            "median_seconds": statistics.median(self.seconds),
            "least_seconds": min(self.seconds),
            "seconds": self.seconds,
            "peak_bytes": self.end.get("peak_bytes"),
        }


def measure(work, programs, rounds, threads):
    """The results of one work: the programs take turns, one step each, so that what else the machine does meets all."""
    runners = []
    try:
        for name, command in programs:
            runners.append(Runner(name, command + [work, "--threads", str(threads), "--steps-on-stdin"], threads))
        for number in range(rounds):
            for runner in runners:
                time.sleep(PAUSE_SECONDS)
                runner.step()
            latest = ", ".join(f"{runner.name} {runner.seconds[-1]:.3f} s" for runner in runners)
            print(f"{work} round {number + 1}/{rounds}: {latest}", file=sys.stderr, flush=True)
        for runner in runners:
            runner.finish()
    finally:
        for runner in runners:
            if runner.process.poll() is None:
                runner.process.kill()
    return {runner.name: runner.result() for runner in runners}


def processor():
    """The processor's name, as the system tells it."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine()


def machine(python, threads):
    """What the numbers depend on."""
    script = "import torch; print(torch.__version__); print(torch.backends.cpu.get_cpu_capability())"
    told = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.split("\n")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "cores": cores,
        "threads": threads,
        "system": platform.platform(terse=True),
        "torch": told[0],
        "torch_instructions": told[1],
        "date": datetime.date.today().isoformat(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def ratio(results, which):
    """PyTorch's time in its better layout over ours; None where ours was not measured."""
    if "microtome" not in results:
        return None
    return min(results[layout][which] for layout in LAYOUTS) / results["microtome"][which]


def warn_of_load(about):
    """Other programs hurt a peer that waits at barriers far more than one that hands work over."""
    load = about["load_before"]
    if load is not None and load > 0.5:
        print(f"bench: the load is {load:.1f} before anything runs. PyTorch on a busy machine may take several times as "
              "long; believe the ratio of the least times, or measure again in peace.", file=sys.stderr)


def markdown(record):
    """The record as a table that can be pasted into a document."""
    about = record["machine"]
    lines = [
        f"{about['date']}, {about['processor']}, {about['cores']} cores, {about['threads']} threads, "
        f"PyTorch {about['torch']} ({about['torch_instructions']}), medians (least) of {record['rounds']} steps in turn; "
        f"load before: {about['load_before'] or 0:.1f}.",
        "",
        "| work | Microtome | PyTorch, channels first | PyTorch, channels last | better PyTorch / ours | peak memory (same order) |",
        "|---|---|---|---|---|---|",
    ]
    for work, measured in record["works"].items():
        results = measured["programs"]
        cells = [results.get(name) for name in ["microtome", *LAYOUTS]]
        times = [f"{cell['median_seconds']:.3f} ({cell['least_seconds']:.3f}) s" if cell else "–" for cell in cells]
        peaks = " / ".join(f"{cell['peak_bytes'] / 1e9:.2f}" if cell else "–" for cell in cells)
        times_as_fast = measured["better_torch_over_ours"]
        least = measured["better_torch_over_ours_least"]
        shown = f"{times_as_fast:.2f}× ({least:.2f}×)" if times_as_fast else "–"
        lines.append(f"| {work} | {' | '.join(times)} | {shown} | {peaks} GB |")
    return "\n".join(lines) + "\n"


def arguments():
    parser = argparse.ArgumentParser(description="Measures Microtome's networks beside PyTorch.")
    parser.add_argument("--works", default=",".join(WORKS), help="which, with commas (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each program (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each program (default: 2)")
    parser.add_argument("--python", help="an interpreter with torch, instead of bench/.venv")
    parser.add_argument("--ours", help="our program already built, or `none` to measure PyTorch alone")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of results.md and results.json")
    parsed = parser.parse_args()
    parsed.works = parsed.works.split(",")
    unknown = [work for work in parsed.works if work not in WORKS]
    if unknown or parsed.rounds < 1 or parsed.threads < 1:
        parser.error(f"works are {', '.join(WORKS)}; rounds and threads are at least 1")
    return parsed


def main():
    given = arguments()
    python = python_with_torch(given.python)
    programs = [] if given.ours == "none" else [("microtome", [built_program(given.ours)])]
    programs += [(layout, [python, HERE / "peer.py", "--layout", layout]) for layout in LAYOUTS]
    record = {"machine": machine(python, given.threads), "rounds": given.rounds, "works": {}}
    warn_of_load(record["machine"])
    for work in given.works:
        results = measure(work, programs, given.rounds, given.threads)
        record["works"][work] = {"programs": results, "better_torch_over_ours": ratio(results, "median_seconds"),
                                 "better_torch_over_ours_least": ratio(results, "least_seconds")}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    (given.out / "results.md").write_text(markdown(record))
    print(markdown(record), end="")


if __name__ == "__main__":
    try:
        main()
    except Missing as missing:
        sys.exit(f"bench: {missing}")
    except KeyboardInterrupt:
        sys.exit("bench: stopped")
