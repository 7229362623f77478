"""Cuts the label map of a slide that `microtome slide synth` made into the pictures it consists of, for `microtome evaluate`.

    python bench/mosaic.py SLIDE.mosaic.json LABELS.ome.zarr TRUTH_FOLDER OUT [COUNT]

writes OUT/labels/NNNN.png (what was found) and OUT/truth/NNNN.png (what people drew: NAME.png in TRUTH_FOLDER) for COUNT
places spread over the slide (all without it). Needs zarr, numpy and pillow.
"""

import json
import pathlib
import sys

import numpy
import zarr
from PIL import Image


def renumbered(labels):
    """Ids from 1, as 16 bits."""
    ids, inverse = numpy.unique(labels, return_inverse=True)
    first = 0 if ids[0] == 0 else 1
    return (inverse.reshape(labels.shape) + first).astype(numpy.uint16)


def main(mosaic, labels, truth, out, count=None):
    placed = json.loads(pathlib.Path(mosaic).read_text())["placed"]
    step = max(1, len(placed) // int(count)) if count else 1
    level = zarr.open(labels, mode="r")["0"]
    out, truth = pathlib.Path(out), pathlib.Path(truth)
    for folder in ("labels", "truth"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for number, place in list(enumerate(placed))[::step]:
        rows = slice(place["y_px"], place["y_px"] + place["height_px"])
        columns = slice(place["x_px"], place["x_px"] + place["width_px"])
        drawn = numpy.asarray(Image.open(truth / f"{place['picture']}.png"))
        drawn = drawn[: place["height_px"], : place["width_px"]]
        name = f"{number:04}.png"
        Image.fromarray(renumbered(level[rows, columns])).save(out / "labels" / name)
        Image.fromarray(renumbered(drawn)).save(out / "truth" / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
