"""Numbers that ResNet-18 and the bottlenecks of ResNet-50 are held against, made by PyTorch.

    pip install torch numpy safetensors
    python make_resnet.py            # writes resnet.safetensors and bottleneck.safetensors beside itself

ResNet-18, and a network of one of ResNet-50's blocks a stage, as torchvision lays them out and names them, with a linear head of 16
outputs, written out in plain PyTorch.
Computed in double precision and rounded to single, so that the only rounding error in a comparison is ours; the same in
PyTorch's single precision is printed, to see what rounding alone does. 11 million weights are not stored: both sides
compute them, and the pictures, from a hash of the tensor's name and the value's index. Of each gradient, running
statistic and trained parameter a summary is stored: norm, mean, and 16 values at places that the hash chooses.
"""
import pathlib
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from safetensors.torch import save_file

IMAGES, SIDE, OUTPUTS, PROBES, RATE, STEPS = 4, 64, 16, 16, 1e-3, 2


def hashed(name, indices):
    """32 bits for each index: FNV-1a of the name, mixed with the index as MurmurHash3 finishes."""
    h = 0x811C9DC5
    for byte in name.encode(): h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    h = np.uint32(h) ^ (indices.astype(np.uint32) * np.uint32(0x9E3779B9))
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def units(name, indices):
    """Values in [-1, 1), exact in single precision."""
    return (hashed(name, indices) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def ruled(name, shape):
    """The tensor's values at the start, all arithmetic in single precision."""
    u, f = units(name, np.arange(int(np.prod(shape)))), np.float32
    layer, kind = name.rsplit('.', 1)
    if layer == 'fc': u = u * np.sqrt(f(1) / f(512))
    elif len(shape) == 4: u = u * np.sqrt(f(6) / f(np.prod(shape[1:])))
    else: u = {'weight': f(1) + f(0.5) * u, 'bias': f(0.3) * u,
               'running_mean': f(0.1) * u, 'running_var': f(1) + f(0.5) * u}[kind]
    assert u.dtype == np.float32
    return torch.from_numpy(u.reshape(shape))


def ruled_pictures():
    """0 to 1: half of it noise of each pixel, half of it noise of squares of 8 pixels."""
    image, channel, y, x = np.indices((IMAGES, 3, SIDE, SIDE))
    plane = image * 3 + channel
    fine = units('pictures', (plane * SIDE + y) * SIDE + x)
    coarse = units('squares', (plane * (SIDE // 8) + y // 8) * (SIDE // 8) + x // 8)
    return torch.from_numpy((fine + coarse) * np.float32(0.25) + np.float32(0.5))


class Block(nn.Module):
    def __init__(s, i, o, stride):
        super().__init__()
        s.conv1, s.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        s.conv2, s.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        s.downsample = None
        if i != o: s.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
    def forward(s, x):
        y = s.bn2(s.conv2(F.relu(s.bn1(s.conv1(x)))))
        return F.relu(y + (x if s.downsample is None else s.downsample(x)))


class Bottleneck(nn.Module):
    """A quarter of the channels in the middle, whose convolution has the stride."""
    def __init__(s, i, o, stride):
        super().__init__()
        m = o // 4
        s.conv1, s.bn1 = nn.Conv2d(i, m, 1, bias=False), nn.BatchNorm2d(m)
        s.conv2, s.bn2 = nn.Conv2d(m, m, 3, stride, 1, bias=False), nn.BatchNorm2d(m)
        s.conv3, s.bn3 = nn.Conv2d(m, o, 1, bias=False), nn.BatchNorm2d(o)
        s.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
    def forward(s, x):
        y = F.relu(s.bn2(s.conv2(F.relu(s.bn1(s.conv1(x))))))
        return F.relu(s.bn3(s.conv3(y)) + s.downsample(x))


class ResNet(nn.Module):
    def __init__(s, layers):
        super().__init__()
        s.conv1, s.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        s.layer1, s.layer2, s.layer3, s.layer4 = (nn.Sequential(*blocks) for blocks in layers)
        s.fc = nn.Linear(512 if isinstance(layers[0][0], Block) else 2048, OUTPUTS)
    def forward(s, x):
        x = F.max_pool2d(F.relu(s.bn1(s.conv1(x))), 3, 2, 1)
        x = s.layer4(s.layer3(s.layer2(s.layer1(x))))
        return s.fc(x.mean((2, 3)))


def resnet18():
    return ResNet([[Block(i, o, stride), Block(o, o, 1)] for i, o, stride in [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]])


def bottlenecks():
    return ResNet([[Bottleneck(i, o, stride)] for i, o, stride in [(64, 256, 1), (256, 512, 2), (512, 1024, 2), (1024, 2048, 2)]])


def summary(name, tensor):
    values = tensor.detach().double().flatten()
    places = torch.from_numpy((hashed('probe ' + name, np.arange(PROBES)) % np.uint32(len(values))).astype(np.int64))
    return torch.cat([values.norm()[None], values.mean()[None], values[places]])


def numbers(make, dtype):
    out, network = {}, make().to(dtype)
    statistics = [(n, b) for n, b in network.named_buffers() if not n.endswith('num_batches_tracked')]
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *statistics]: tensor.copy_(ruled(name, tuple(tensor.shape)))
    pictures = ruled_pictures().to(dtype)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for step in range(STEPS):
        output = network.train()(pictures); loss = (output ** 2).mean()
        optimiser.zero_grad(); loss.backward()
        if step == 0:
            out['train'], out['loss'] = output.detach().clone(), loss.detach()[None]
            for name, p in network.named_parameters(): out['gradient/' + name] = summary(name, p.grad)
            for name, b in statistics: out['running/' + name] = summary(name, b)
            with torch.no_grad(): out['eval'] = network.eval()(pictures)
        optimiser.step()
    for name, p in network.named_parameters(): out['stepped/' + name] = summary(name, p)
    return {name: tensor.float().contiguous() for name, tensor in out.items()}


for make, file in (resnet18, 'resnet.safetensors'), (bottlenecks, 'bottleneck.safetensors'):
    out, single = numbers(make, torch.float64), numbers(make, torch.float32)
    sizes = {name: tensor.numel() for name, tensor in make().state_dict().items()}
    for kind in ('train', 'eval', 'loss', 'gradient/', 'running/', 'stepped/'):  # in the units that the test takes
        def unit(n):
            if kind == 'stepped/': return RATE
            return out[n][0] / sizes[n.removeprefix(kind)] ** 0.5 if '/' in kind else out[n].abs().max()
        errors = [(float((single[n] - out[n])[1 if '/' in kind else 0:].abs().max() / unit(n)), n) for n in out if n.startswith(kind)]
        print(f'{kind} {len(errors)} tensors, single precision is off by %.1e in %s' % max(errors))
    path = pathlib.Path(__file__).with_name(file)
    save_file(out, path)
    print('torch', torch.__version__, path.name, path.stat().st_size, 'bytes', 'loss', float(out['loss']))
