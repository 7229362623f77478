#!/usr/bin/env python3
"""Tissue prototypes end to end: teaches, clusters, names by the oracle, and scores pictures that were held out of all of it.

    bench/tissue.py IMAGES MASKS --classes other,gland --out FOLDER [--program microtome] [--encoders texture,small] [--k 30]

Every third picture, by name, is held out (`--tuning` holds out every third of the others instead, and leaves those alone). Each
encoder is NAME or NAME:FLAG=VALUE:…, as in resnet18:paper=true:epochs=1:batch=256. Prints a table in Markdown; FOLDER keeps the
projects and masks. Needs nothing but Python.
"""
import argparse
import json
import pathlib
import re
import subprocess
import time


def numbered(path):
    """Sorts a_2 before a_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def split(images, tuning):
    """Pictures to learn from, and those held out."""
    files = sorted((path for path in pathlib.Path(images).iterdir() if path.is_file()), key=numbered)
    held = [path for index, path in enumerate(files) if index % 3 == 2]
    rest = [path for path in files if path not in held]
    if not tuning:
        return rest, held
    held = [path for index, path in enumerate(rest) if index % 3 == 2]
    return [path for path in rest if path not in held], held


class Microtome:
    """The program; each call's seconds are added up."""

    def __init__(self, program):
        self.program, self.seconds = program, 0.0

    def __call__(self, *arguments):
        begun = time.monotonic()
        command = [self.program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.seconds += time.monotonic() - begun
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        return done.stdout


def score(program, folder, masks):
    """Mean Dice with its interval, and mean IoU."""
    found = json.loads(Microtome(program)("evaluate", "--task", "tissue", "--predicted", folder, "--truth", masks, "--json"))
    low, high = (found["interval_95"]["mean_dice"][end] for end in ("low", "high"))
    return found["mean_dice"], low, high, found["mean_iou"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("masks")
    parser.add_argument("--classes", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--program", default="microtome")
    parser.add_argument("--encoders", default="texture,small")
    parser.add_argument("--k", default="30")
    parser.add_argument("--names", default="--shown sample:20 --purity 0")
    parser.add_argument("--methods", default="direct,cluster,fine")
    parser.add_argument("--tuning", action="store_true")
    options = parser.parse_args()
    learned, held = split(options.images, options.tuning)
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(learned)} pictures to learn from, {len(held)} held out; K = {options.k}, at most {options.k} names\n")
    print("| encoder | query | mean Dice | 95 % interval | mean IoU | seconds to the dictionary |\n|---|---|---|---|---|---|")
    for number, encoder in enumerate(options.encoders.split(",")):
        kind, *flags = encoder.split(":")
        flags = dict(flag.split("=") for flag in flags)
        project = out / f"{number}-{kind}"
        run = Microtome(options.program)
        if not project.exists():
            run("project", "init", project, "--classes", options.classes)
        run("project", "add", project, *learned)
        paper = flags.get("paper") == "true"
        run("tissue", "tile", project, *(["--step", "64", "--named", "128"] if paper else []))
        run("tissue", "pretrain", project, "--encoder", kind, *(f"--{name}={value}" for name, value in flags.items()))
        run("tissue", "embed", project)
        run("tissue", "cluster", project, "--k", options.k)
        names = "--shown top:10 --purity 0.8" if paper else options.names
        run("tissue", "name", project, "--oracle", options.masks, *names.split())
        run("tissue", "query", project, "--out", out / f"{number}-{kind}-own", "--method", "direct")
        seconds = run.seconds
        for method in options.methods.split(","):
            masks = out / f"{number}-{kind}-{method}"
            Microtome(options.program)("tissue", "apply", project / "models/dictionary.safetensors", *held, "--out", masks, "--method", method)
            dice, low, high, iou = score(options.program, masks, options.masks)
            print(f"| {encoder} | {method} | {dice:.3f} | {low:.3f}–{high:.3f} | {iou:.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
