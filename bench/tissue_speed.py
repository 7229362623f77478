#!/usr/bin/env python3
"""k-means, SimCLR's views and the teaching of an encoder, beside scikit-learn, torchvision and PyTorch on this machine.

    bench/tissue_speed.py [--works kmeans,views,simclr] [--rounds 3]

Needs cargo, and a Python with torch, torchvision, scikit-learn and numpy. Prints a table in Markdown: medians of rounds in which the
programs take turns. Two threads where nothing else is said.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "2")
ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "target/release/examples"


def built():
    for package, example in [("microtome-kernels", "tissue_speed"), ("microtome-nets", "simclr_speed")]:
        command = ["cargo", "build", "--release", "--quiet", "-p", package, "--example", example]
        subprocess.run(command, check=True, cwd=ROOT)


def ours(example, *arguments):
    """The first column of what an example prints: seconds; and the second of the last line."""
    text = subprocess.run([EXAMPLES / example, *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return statistics.median(float(row[0]) for row in rows), rows[-1][1:]


def kmeans(rounds):
    """20,000 points of 512 numbers, K = 30, 50 iterations, k-means++ in both."""
    import numpy as np
    from sklearn.cluster import KMeans

    points = np.random.default_rng(1).normal(size=(20_000, 512)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "points.f32"
        points.tofile(path)
        mine, theirs = [], []
        for seed in range(rounds):
            seconds, rest = ours("tissue_speed", "kmeans", path, 512, 30, 50)
            mine.append(seconds)
            begun = time.monotonic()
            found = KMeans(30, n_init=1, max_iter=50, tol=0, algorithm="lloyd", random_state=seed).fit(points)
            theirs.append(time.monotonic() - begun)
    note = f"inertia {float(rest[0]):.5g} and {found.inertia_:.5g}"
    return "k-means, 20,000 × 512, K = 30, 50 iterations", statistics.median(theirs), statistics.median(mine), note


def transform():
    import torchvision.transforms as T

    jitter = T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8)
    blur = T.RandomApply([T.GaussianBlur(23, (0.1, 2.0))], p=0.5)
    return T.Compose([T.RandomResizedCrop(128), T.RandomHorizontalFlip(), jitter, T.RandomGrayscale(0.2), blur, T.ToTensor()])


def views(rounds):
    """One view of a tile of 128 px, on one core; torchvision on PIL pictures, as SimCLR's code has it."""
    import numpy as np
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    tile = Image.fromarray(np.random.default_rng(1).integers(0, 256, (128, 128, 3)).astype(np.uint8))
    make, mine, theirs = transform(), [], []
    for _ in range(rounds):
        mine.append(ours("tissue_speed", "views", 128, 3000)[0])
        begun = time.monotonic()
        for _ in range(500):
            make(tile)
        theirs.append((time.monotonic() - begun) / 500)
    torch.set_num_threads(2)
    return "a view of 128 px, one core", statistics.median(theirs), statistics.median(mine), ""


def simclr(rounds):
    """A step of SimCLR's teaching of ResNet-18 with 64 tiles, views included; PyTorch with its loader of two workers."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from torchvision.models import resnet18

    torch.set_num_threads(2)
    tiles, make = 64, transform()
    pictures = [Image.fromarray(p) for p in np.random.default_rng(1).integers(0, 256, (tiles, 128, 128, 3)).astype(np.uint8)]

    class Views(torch.utils.data.Dataset):
        def __len__(self):
            return tiles * 8

        def __getitem__(self, index):
            return make(pictures[index % tiles]), make(pictures[index % tiles])

    network = resnet18()
    network.fc = torch.nn.Identity()
    head = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 128))
    parameters = [*network.parameters(), *head.parameters()]
    mine, theirs = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        network, times = network.to(memory_format=layout), []
        optimiser = torch.optim.Adam(parameters, lr=3e-4, fused=True)
        for _ in range(max(1, rounds // 2)):
            mine.append(ours("simclr_speed", "resnet18", "paper", tiles, 6)[0])
            begun = None
            for first, second in torch.utils.data.DataLoader(Views(), batch_size=tiles, num_workers=2, drop_last=True):
                z = F.normalize(head(network(torch.cat([first, second]).to(memory_format=layout))), dim=1)
                similarity = (z @ z.T / 0.5).fill_diagonal_(float("-inf"))
                targets = torch.cat([torch.arange(tiles) + tiles, torch.arange(tiles)])
                optimiser.zero_grad(set_to_none=True)
                F.cross_entropy(similarity, targets).backward()
                optimiser.step()
                now = time.monotonic()
                if begun is not None:
                    times.append(now - begun)
                begun = now
        theirs.append(statistics.median(times))
    note = "PyTorch: the better of channels first and last"
    return "a step of SimCLR, ResNet-18, 64 tiles of 128 px", min(theirs), statistics.median(mine), note


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default="kmeans,views,simclr")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    built()
    print("| work | theirs, s | ours, s | ratio | |\n|---|---|---|---|---|")
    for work in options.works.split(","):
        name, theirs, mine, note = {"kmeans": kmeans, "views": views, "simclr": simclr}[work](options.rounds)
        print(f"| {name} | {theirs:.5f} | {mine:.5f} | {theirs / mine:.2f} | {note} |", flush=True)


if __name__ == "__main__":
    main()
