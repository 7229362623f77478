"""Numbers that the networks, the similarities, the loss and the optimiser are held against, made by PyTorch.

    pip install torch numpy safetensors
    python make_golden.py            # writes contrastive.safetensors beside itself

Made with PyTorch 2.x in double precision and rounded to single, so that the only rounding error in a comparison is
ours. Everything is written out with loops over patches, as the paper describes it, to share no shortcut with the code
that it checks. Crop 42×46, patches of 18 on a stride of 8, 2 pictures, 3 output channels.
"""
import pathlib
import torch, torch.nn as nn, torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(20261121)
torch.set_default_dtype(torch.float64)
IMAGES, OUTPUTS, HEIGHT, WIDTH, PATCH = 2, 3, 42, 46, 18
SIDE = 1  # of the feature network's last map, for patches of 18


class ConvNormElu(nn.Module):
    def __init__(s, i, o, d):
        super().__init__(); s.conv = nn.Conv2d(i, o, 3, padding=d, dilation=d, bias=False); s.norm = nn.BatchNorm2d(o)
    def forward(s, x): return F.elu(s.norm(s.conv(x)))


class Confidence(nn.Module):
    def __init__(s):
        super().__init__(); s.stem = ConvNormElu(3, 8, 1); s.head = nn.Conv2d(8, OUTPUTS, 1)
        s.first = nn.ModuleList(ConvNormElu(8, 8, d) for d in (1, 2, 3, 5, 10, 20))
        s.second = nn.ModuleList(ConvNormElu(8, 8, d) for d in (1, 2, 3, 5, 10, 20))
    def forward(s, x):
        x = s.stem(x)
        for first, second in zip(s.first, s.second): x = x + second(first(x))
        return torch.sigmoid(s.head(x))


class Feature(nn.Module):
    def __init__(s):
        super().__init__()
        s.convs = nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, stride=2, dilation=2, bias=False),
                                 nn.Conv2d(8, 1, 3, stride=2, dilation=2, bias=False)])
        s.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (8, 8, 1)); s.linear = nn.Linear(SIDE * SIDE, 32)
    def forward(s, x):
        for conv, norm in zip(s.convs, s.norms): x = F.elu(norm(conv(x)))
        return s.linear(x.flatten(1))


confidence, feature = Confidence(), Feature()
for module in [*confidence.modules(), *feature.modules()]:
    if isinstance(module, nn.BatchNorm2d):  # γ and β that are not 1 and 0
        nn.init.uniform_(module.weight, 0.5, 1.5); nn.init.uniform_(module.bias, -0.3, 0.3)


def named():
    """Our name of each tensor, and the tensor."""
    def block(prefix, layer):
        yield prefix + '.weight', layer.conv.weight
        yield prefix + '.gamma', layer.norm.weight
        yield prefix + '.beta', layer.norm.bias
        yield prefix + '.running_mean', layer.norm.running_mean
        yield prefix + '.running_variance', layer.norm.running_var
    yield from block('confidence.stem', confidence.stem)
    for i in range(6):
        yield from block(f'confidence.blocks.{i}.first', confidence.first[i])
        yield from block(f'confidence.blocks.{i}.second', confidence.second[i])
    yield 'confidence.head.weight', confidence.head.weight
    yield 'confidence.head.bias', confidence.head.bias
    for i, (conv, norm) in enumerate(zip(feature.convs, feature.norms)):
        yield f'feature.layers.{i}.weight', conv.weight
        if conv.bias is not None: yield f'feature.layers.{i}.bias', conv.bias
        yield f'feature.layers.{i}.gamma', norm.weight
        yield f'feature.layers.{i}.beta', norm.bias
        yield f'feature.layers.{i}.running_mean', norm.running_mean
        yield f'feature.layers.{i}.running_variance', norm.running_var
    yield 'feature.weight', feature.linear.weight
    yield 'feature.bias', feature.linear.bias


out = {}
def keep(name, tensor): out[name] = tensor.detach().clone().float().contiguous()
def keep_all(prefix):
    for name, tensor in named(): keep(prefix + name, tensor)


pictures = torch.rand(IMAGES, 3, HEIGHT, WIDTH).float().double() * 0.95 + 0.05
pictures = pictures.float().double()
keep('pictures', pictures)
for _, tensor in named():
    with torch.no_grad(): tensor.copy_(tensor.float().double())
keep_all('start/')

# Similarities of 3 patches with 4, pair by pair.
GREY = torch.tensor([0.2989, 0.587, 0.114])
def grey(p): return (GREY[:, None] * p.reshape(3, -1)).sum(0)
def mse(a, b): return -((a - b) ** 2).mean()
def cross_entropy(a, b): return (a * torch.log2(b) + (1 - a) * torch.log2(1 - b)).mean()
def cosine(a, b): return F.cosine_similarity(a[None], b[None])[0]
def kl(a, b):
    la, lb = grey(a).log().clamp(min=-100), grey(b).log().clamp(min=-100)
    return -F.kl_div(la, lb, reduction='batchmean', log_target=True)
def mutual_information(a, b):
    centres = torch.linspace(0, 1, 25)
    ka = torch.exp(-0.5 * ((grey(a)[:, None] - centres) / 0.9) ** 2)
    kb = torch.exp(-0.5 * ((grey(b)[:, None] - centres) / 0.9) ** 2)
    joint = ka.T @ kb; joint = joint / joint.sum()
    return (joint * torch.log2(joint / (joint.sum(1)[:, None] * joint.sum(0)[None]))).sum()
SIMILARITIES = dict(mean_squared_error=mse, cross_entropy=cross_entropy, mutual_information=mutual_information,
                    kullback_leibler=kl)
a = (torch.rand(3, 3 * PATCH * PATCH) * 0.88 + 0.02).float().double()
b = (torch.rand(4, 3 * PATCH * PATCH) ** 2 * 0.88 + 0.02).float().double()
keep('similarity/a', a); keep('similarity/b', b)
for name, s in [*SIMILARITIES.items(), ('featurised_cosine', cosine)]:
    keep('similarity/' + name, torch.stack([torch.stack([s(x, y) for y in b]) for x in a]))

# Fixed draws: 7 to 9 positives, 4 to 6 negatives, 10 anchors a channel.
tops, lefts = [0, 8, 16], [0, 8, 16, 24]
def patches(n, salt): return [((i * 5 + salt) % IMAGES, tops[(i * 7 + salt) % 3], lefts[(i * 3 + salt) % 4]) for i in range(n)]
positives = [patches(7 + c, c) for c in range(OUTPUTS)]
negatives = [patches(4 + c, c + 3) for c in range(OUTPUTS)]
anchors = [[(i * 3 + c) % len(positives[c]) for i in range(10)] for c in range(OUTPUTS)]
for c in range(OUTPUTS):
    keep(f'draws/positives.{c}', torch.tensor(positives[c])); keep(f'draws/negatives.{c}', torch.tensor(negatives[c]))
    keep(f'draws/anchors.{c}', torch.tensor(anchors[c]))


def loss_of(conf, kind):
    s = cosine if kind == 'featurised_cosine' else SIMILARITIES[kind]
    def cut(patch_list, c):
        attended = [pictures[i, :, t:t + PATCH, l:l + PATCH] * conf[i, c, t:t + PATCH, l:l + PATCH] for i, t, l in patch_list]
        if kind == 'featurised_cosine': return list(feature(torch.stack(attended)))
        return [p.flatten() for p in attended]
    pos = [cut(positives[c], c) for c in range(OUTPUTS)]; neg = [cut(negatives[c], c) for c in range(OUTPUTS)]
    total = 0
    for c in range(OUTPUTS):
        others = [p for o in range(OUTPUTS) if o != c for p in pos[o]]
        for k in anchors[c]:
            for rest in (neg[c], others):
                denominator = sum(torch.exp(s(pos[c][k], q)) for q in rest)
                for p in pos[c]: total = total - torch.log(torch.exp(s(pos[c][k], p)) / denominator)
    return total / 10**2 / IMAGES


parameters = [*confidence.parameters(), *feature.parameters()]
state = {name: tensor.detach().clone() for name, tensor in named()}
def reset():
    with torch.no_grad():
        for name, tensor in named(): tensor.copy_(state[name])
        for p in parameters: p.grad = None

for kind in [*SIMILARITIES, 'featurised_cosine']:
    reset(); confidence.train(); feature.train()
    conf = confidence(pictures); loss = loss_of(conf, kind); loss.backward()
    keep(f'loss/{kind}', loss[None] if loss.ndim == 0 else loss)
    if kind in ('mean_squared_error', 'featurised_cosine'):
        for name, tensor in named():
            if tensor.grad is not None: keep(f'gradient/{kind}/{name}', tensor.grad)
    if kind == 'mean_squared_error':
        keep('confidence/train', conf); confidence.eval(); keep('confidence/eval', confidence(pictures))

# Ten steps of Adam with L2 in the gradient, on the same batch and draws.
reset(); confidence.train(); optimiser = torch.optim.Adam(confidence.parameters(), lr=2e-4, weight_decay=1e-4); losses = []
for _ in range(10):
    loss = loss_of(confidence(pictures), 'mean_squared_error'); optimiser.zero_grad(); loss.backward(); optimiser.step(); losses.append(float(loss))
keep('steps/losses', torch.tensor(losses))
for name, tensor in named():
    if name.startswith('confidence.'): keep('steps/' + name, tensor)

path = pathlib.Path(__file__).with_name('contrastive.safetensors')
save_file(out, path)
print('torch', torch.__version__, path.stat().st_size, 'bytes', {k: float(v[0]) for k, v in out.items() if k.startswith('loss/')})
