"""Cuts the label map of a slide that `microtome slide synth` made into the pictures it consists of, for `microtome evaluate`.

    python bench/mosaic.py SLIDE.mosaic.json LABELS.ome.zarr TRUTH_FOLDER OUT [--count N] [--border PX] [--alone LABELS]

writes OUT/labels/NNNN.png (what was found) and OUT/truth/NNNN.png (what people drew: NAME.png in TRUTH_FOLDER) for N
places spread over the slide (all without it); with `--alone`, OUT/alone/NNNN.png, too: what was found in the same picture on its own
(NAME.png in the folder LABELS). Of each place PX pixels at its border are left out, where a picture ends and the slide goes on.
Needs zarr, numpy and pillow.
"""

import argparse
import json
import pathlib

import numpy
import zarr
from PIL import Image


def renumbered(labels):
    """Ids from 1, as 16 bits."""
    ids, inverse = numpy.unique(labels, return_inverse=True)
    first = 0 if ids[0] == 0 else 1
    return (inverse.reshape(labels.shape) + first).astype(numpy.uint16)


def main(asked):
    placed = json.loads(pathlib.Path(asked.mosaic).read_text())["placed"]
    step = max(1, len(placed) // asked.count) if asked.count else 1
    level = zarr.open(asked.labels, mode="r")["0"]

    def write(kind, number, labels):
        folder = pathlib.Path(asked.out) / kind
        folder.mkdir(parents=True, exist_ok=True)
        inner = slice(asked.border, -asked.border or None)
        Image.fromarray(renumbered(labels[inner, inner])).save(folder / f"{number:04}.png")

    for number, place in list(enumerate(placed))[::step]:
        rows = slice(place["y_px"], place["y_px"] + place["height_px"])
        columns = slice(place["x_px"], place["x_px"] + place["width_px"])
        write("labels", number, level[rows, columns])
        others = [("truth", asked.truth)] + ([("alone", asked.alone)] if asked.alone else [])
        for kind, folder in others:
            picture = numpy.asarray(Image.open(pathlib.Path(folder) / f"{place['picture']}.png"))
            write(kind, number, picture[: place["height_px"], : place["width_px"]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("mosaic", "labels", "truth", "out"):
        parser.add_argument(name)
    parser.add_argument("--count", type=int)
    parser.add_argument("--border", type=int, default=0)
    parser.add_argument("--alone")
    main(parser.parse_args())
