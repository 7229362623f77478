"""The works of the benchmark in PyTorch, one process for one work and one memory layout.

    peer.py WORK [--layout channels-first|channels-last] [--threads N] [--seconds S | --steps-on-stdin]

After one warm-up step it prints a line of JSON for each step, and one with the peak memory at the end. With
--steps-on-stdin it prints `ready` and makes a step for each line `step`, so that run.py can let several programs take
turns. Needs torch and nothing else.
"""
import argparse
import json
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional

WORKS = ["confidence-training", "confidence-inference", "resnet18-training", "resnet18-inference"]
DILATIONS = [1, 2, 3, 5, 10, 20]


def convolution_norm_elu(inputs, outputs, dilation):
    """3×3 convolution that keeps the size, without bias; batch norm; ELU."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ELU(inplace=True))


class ConfidenceNetwork(nn.Module):
    """Stem 3→8, six residual blocks x + f(x) of growing dilation, head 1×1 8→4, sigmoid (crates/nets/src/confidence.rs)."""

    def __init__(self, outputs=4, width=8):
        super().__init__()
        self.stem = convolution_norm_elu(3, width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(convolution_norm_elu(width, width, d), convolution_norm_elu(width, width, d))
            for d in DILATIONS
        )
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return torch.sigmoid(self.head(x))


class BasicBlock(nn.Module):
    """ReLU(x + f(x)), f = 3×3 convolution, norm, ReLU, 3×3 convolution, norm; 1×1 convolution and norm on x where
    the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.norm1(self.convolution1(x)), inplace=True)
        y = self.norm2(self.convolution2(y))
        y += x if self.shortcut is None else self.shortcut(x)
        return functional.relu(y, inplace=True)


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with a linear head 512→128."""

    def __init__(self, outputs=128):
        super().__init__()
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
        layers, inputs = stem + [nn.MaxPool2d(3, 2, 1)], 64
        for channels, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
            layers += [BasicBlock(inputs, channels, stride), BasicBlock(channels, channels, 1)]
            inputs = channels
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(512, outputs)

    def forward(self, x):
        return self.head(self.layers(x))


def make_step(work, layout):
    """A function that makes one step of the work."""
    torch.manual_seed(1)
    if work.startswith("confidence"):
        network, rate, decay = ConfidenceNetwork(), 2e-4, 1e-4
        shape = (10, 3, 300, 300) if work.endswith("training") else (1, 3, 1000, 1000)
    else:
        network, rate, decay, shape = ResNet18(), 1e-3, 0.0, (32, 3, 128, 128)
    memory = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    network = network.to(memory_format=memory)
    x = torch.randn(shape).contiguous(memory_format=memory)
    if work.endswith("inference"):
        return inference(network.eval(), x)
    # The fused optimiser is PyTorch's fastest on a CPU; the others were slower here.
    return training(network.train(), x, torch.optim.Adam(network.parameters(), rate, weight_decay=decay, fused=True))


def inference(network, x):
    def step():
        with torch.inference_mode():
            network(x)

    return step


def training(network, x, optimiser):
    def step():
        optimiser.zero_grad(set_to_none=True)
        network(x).square().mean().backward()
        optimiser.step()

    return step


def report(**values):
    print(json.dumps(values), flush=True)


def timed(work, step):
    start = time.perf_counter()
    step()
    report(work=work, seconds=time.perf_counter() - start)


def peak_bytes():
    """The most memory that the process has had; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main():
    parser = argparse.ArgumentParser(description="The benchmark's works in PyTorch.")
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--layout", choices=["channels-first", "channels-last"], default="channels-first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--steps-on-stdin", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    step = make_step(arguments.work, arguments.layout)
    step()
    if arguments.steps_on_stdin:
        print("ready", flush=True)
        for line in sys.stdin:
            if line.strip() == "step":
                timed(arguments.work, step)
    else:
        end = time.perf_counter() + arguments.seconds
        while time.perf_counter() < end:
            timed(arguments.work, step)
    report(work=arguments.work, peak_bytes=peak_bytes(), torch=torch.__version__)


if __name__ == "__main__":
    main()
