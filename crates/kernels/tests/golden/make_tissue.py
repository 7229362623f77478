"""Prints tissue.rs: k-means by scikit-learn, SimCLR's views by torchvision, and the nearest prototypes by PyTorch.

    python make_tissue.py > tissue.rs     (torch 2.15.0, torchvision 0.29.2, scikit-learn 1.9.1, numpy 2.4.6)
"""
import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from sklearn.cluster import KMeans
from torchvision.transforms import InterpolationMode


def const(name, values, kind="f32"):
    """One Rust array, wrapped at 100 characters; each number is the shortest that reads back to the same float."""
    values = np.asarray(values).ravel()
    words = [str(np.float32(value)) if kind == "f32" else str(int(value)) for value in values]
    print(f"pub(crate) const {name}: [{kind}; {len(words)}] = [")
    line = "   "
    for word in words:
        if len(line) + len(word) > 100:
            print(line)
            line = "   "
        line += f" {word},"
    print(line + "\n];")


print("//! Printed by make_tissue.py with torch 2.15.0, torchvision 0.29.2, scikit-learn 1.9.1, numpy 2.4.6.\n")

random = np.random.default_rng(20261122)
points = random.normal(size=(90, 6)).astype(np.float32)
points[:30] += 1.5
points[30:60, :3] -= 1.5
start = points[[0, 31, 62, 80]]
found = KMeans(4, init=start, n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(points)
const("POINTS", points)
const("START", start)
const("CENTROIDS", found.cluster_centers_)
const("ASSIGNMENT", found.labels_, "u32")
print(f"pub(crate) const INERTIA: f64 = {float(np.sum((points - found.cluster_centers_[found.labels_]) ** 2, dtype=np.float64))};")

cells = torch.nn.functional.normalize(torch.tensor(points), dim=1)
prototypes = torch.nn.functional.normalize(torch.tensor(found.cluster_centers_), dim=1)
cosines = cells @ prototypes.T
const("COSINES", cosines.numpy())
const("NEAREST", cosines.argmax(1).numpy(), "u32")

tile = random.integers(0, 256, size=(20, 24, 3)).astype(np.uint8)
const("TILE", tile, "u8")
picture = torch.tensor(tile).permute(2, 0, 1)[None].double() / 255
view = F.resized_crop(picture, 3, 5, 15, 17, [24, 24], InterpolationMode.BILINEAR, antialias=True)
view = F.horizontal_flip(view)
view = F.adjust_brightness(view, 1.4)
view = F.adjust_contrast(view, 0.6)
view = F.adjust_saturation(view, 1.7)
view = F.adjust_hue(view, -0.13)
const("JITTERED", view[0].permute(1, 2, 0).numpy())
view = F.gaussian_blur(F.rgb_to_grayscale(view, 3), [23, 23], [1.3, 1.3])
const("GREY_BLURRED", view[0].permute(1, 2, 0).numpy())
