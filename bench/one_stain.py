"""Gives pictures of many laboratories one stain, as the tissues of one slide have: Macenko's normalisation.

    python bench/one_stain.py PICTURES OUT

writes OUT/NAME.png for each file NAME.* in PICTURES. `microtome slide synth OUT/*` makes a slide of them, whose places differ in
tissue, not in scanner. Optical densities of each picture are explained by its own two stain vectors (Macenko et al. 2009: the
extreme directions, at 1 and 99 %, in the plane of the densities above 0.15), scaled to a common strength at 99 %, and
recomposed with common vectors. Needs numpy and pillow.
"""

import pathlib
import sys

import numpy
from PIL import Image

# The usual reference of this normalisation: haematoxylin, eosin (red, green, blue), and how strong each gets.
VECTORS = numpy.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
STRENGTH = numpy.array([1.9705, 1.0308])
LEAST_DENSITY = 0.15


def stain_vectors(density):
    """The picture's own haematoxylin and eosin [2, 3] from optical densities [pixels, 3]."""
    stained = density[(density > LEAST_DENSITY).all(axis=1)]
    plane = numpy.linalg.eigh(numpy.cov(stained.T))[1][:, [2, 1]]
    plane *= numpy.where(plane[0] < 0, -1, 1)
    across, along = (stained @ plane).T[::-1]
    angles = numpy.percentile(numpy.arctan2(across, along), [1, 99])
    extremes = [plane @ [numpy.cos(angle), numpy.sin(angle)] for angle in angles]
    return numpy.array(sorted(extremes, key=lambda vector: -vector[0]))


def normalised(rgb):
    """The picture [height, width, 3], in 8 bits, in the common stain."""
    density = -numpy.log((rgb.reshape(-1, 3) + 1.0) / 256.0)
    amounts = numpy.linalg.lstsq(stain_vectors(density).T, density.T, rcond=None)[0].clip(min=0)
    amounts *= (STRENGTH / numpy.percentile(amounts, 99, axis=1))[:, None]
    light = 256.0 * numpy.exp(-amounts.T @ VECTORS) - 1.0
    return light.clip(0, 255).round().astype(numpy.uint8).reshape(rgb.shape)


def main(pictures, out):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(pathlib.Path(pictures).iterdir()):
        rgb = numpy.asarray(Image.open(path).convert("RGB"))
        Image.fromarray(normalised(rgb)).save(out / f"{path.stem}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
