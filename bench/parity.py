"""Compares regions of slides with what OpenSlide, tifffile and pydicom read (BENCHMARKS.md has the outcome).

    python bench/parity.py FILE... [--regions 200] [--program target/release/microtome]

For each file and each of the three that opens it: extents of levels and microns per pixel are equal, and so are
rectangles at random places, a fifth of them across an edge (OpenSlide's on white) -- exactly, but for JPEG by pydicom, which
converts colours itself: by at most 1 grey level. Exits with 1 if anything differs by more, or fewer regions were compared.
Needs openslide-python, openslide-bin, tifffile, imagecodecs, pydicom, pylibjpeg, numpy, pillow.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image


def openslide_levels(path):
    import openslide

    slide = openslide.OpenSlide(path)
    mpp = slide.properties.get("openslide.mpp-x")

    def read(level, left, top, width, height):
        # Corners are in level 0; those of smaller levels are chosen so that both mean the same pixel.
        pixels = np.asarray(slide.read_region((left, top), level, (width, height)), np.float64)
        opacity = pixels[..., 3:] / 255
        return np.rint(pixels[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)

    return slide.level_dimensions, slide.level_downsamples, mpp and float(mpp), read


def cropped(levels):
    """`read` for whole levels in memory; none where a rectangle crosses an edge, which such readers do not know."""

    def read(level, left, top, width, height):
        pixels = levels[level]
        factor = round(levels[0].shape[1] / pixels.shape[1])
        left, top = left // factor, top // factor
        part = pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
        return part if part.shape[:2] == (height, width) else None

    sizes = [(pixels.shape[1], pixels.shape[0]) for pixels in levels]
    return sizes, [sizes[0][0] / width for width, _ in sizes], read


def tifffile_levels(path):
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        levels = [level.asarray() for level in series.levels]
    levels = [np.repeat(level[..., None], 3, 2) if level.ndim == 2 else level for level in levels]
    if any(level.ndim != 3 or level.shape[2] != 3 or level.dtype != np.uint8 for level in levels):
        raise ValueError("other than 8-bit RGB or grey")
    sizes, downsamples, read = cropped(levels)
    return sizes, downsamples, None, read


def pydicom_levels(path):
    import pydicom
    from pydicom.pixels import pixel_array

    dataset = pydicom.dcmread(path)
    if "TotalPixelMatrixColumns" not in dataset or "VOLUME" not in dataset.ImageType:
        raise ValueError("no level of a slide")
    # Of its decoders of JPEG, Pillow is the one by libjpeg-turbo; the others round colour otherwise.
    is_jpeg = dataset.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit
    frames = pixel_array(dataset, decoding_plugin="pillow" if is_jpeg else "")
    frames = frames if dataset.get("NumberOfFrames", 1) > 1 else frames[None]
    if frames.ndim == 3:
        most = 2**dataset.BitsStored - 1
        grey = (frames.astype(np.uint64) * 255 + most // 2) // most
        frames = np.repeat(grey[..., None], 3, 3)
    across = -(-dataset.TotalPixelMatrixColumns // dataset.Columns)
    down = -(-dataset.TotalPixelMatrixRows // dataset.Rows)
    rows = [np.concatenate(list(frames[row * across : (row + 1) * across]), 1) for row in range(down)]
    whole = np.concatenate(rows)[: dataset.TotalPixelMatrixRows, : dataset.TotalPixelMatrixColumns]
    spacing = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    sizes, downsamples, read = cropped([whole.astype(np.uint8)])
    return sizes, downsamples, float(spacing[1]) * 1000, read


READERS = {"OpenSlide": openslide_levels, "tifffile": tifffile_levels, "pydicom": pydicom_levels}


def compare(arguments, path, info, who, reader, random, scratch):
    sizes, downsamples, mpp, read = reader
    levels = info["levels"]
    count = min(len(levels), len(sizes))
    problems = []
    if [(level["width_px"], level["height_px"]) for level in levels] != [tuple(size) for size in sizes]:
        problems.append(f"levels {sizes}")
    # What no microscope could have is not taken for a resolution.
    if mpp and mpp < 100 and (info["mpp"] is None or abs(info["mpp"] / mpp - 1) > 1e-6):
        problems.append(f"microns per pixel {info['mpp']} instead of {mpp}")
    largest, differing, done, total, tries = 0, 0, 0, 0, 0
    while done < arguments.regions and tries < 50 * arguments.regions:
        tries += 1
        level = int(random.integers(count))
        size, factor = sizes[level], round(downsamples[level])
        # Where a level is no whole number of times smaller, readers differ about what lies between pixels.
        is_whole = all(length * factor == largest for length, largest in zip(size, sizes[0]))
        width, height = (int(random.integers(1, min(length, 300) + 1)) for length in size)
        beyond = 40 if random.random() < 0.2 else 0
        left, top = (
            int(random.integers(-beyond, max(length - own + beyond, 0) + 1)) * factor * is_whole
            for length, own in zip(size, (width, height))
        )
        theirs = read(level, left, top, width, height)
        if theirs is None:
            continue
        out = scratch / "region.png"
        out.unlink(missing_ok=True)
        command = [arguments.program, "slide", "region", path, "--level", str(level), "--out", str(out)]
        place = {"--x": left, "--y": top, "--width": width, "--height": height}
        subprocess.run(command + [f"{key}={value}" for key, value in place.items()], check=True, capture_output=True)
        ours = np.asarray(Image.open(out).convert("RGB"))
        difference = np.abs(ours.astype(int) - theirs.astype(int)).max(2)
        largest, done = max(largest, int(difference.max())), done + 1
        differing, total = differing + int((difference > 0).sum()), total + difference.size
    is_jpeg = any(level["compression"] == "JPEG" for level in levels)
    if largest > (1 if is_jpeg and who == "pydicom" else 0):
        problems.append(f"{differing / total:.2%} of pixels differ")
    if done < arguments.regions:
        problems.append(f"only {done} regions")
    return done, largest, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--regions", type=int, default=200)
    parser.add_argument("--program", default="target/release/microtome")
    arguments = parser.parse_args()
    failed = compared = 0
    with tempfile.TemporaryDirectory() as scratch:
        for path in arguments.files:
            random = np.random.default_rng(1)
            name = pathlib.Path(path).name
            answer = subprocess.run([arguments.program, "slide", "info", path, "--json"], capture_output=True, text=True)
            for who, levels_of in READERS.items():
                try:
                    reader = levels_of(path)
                except Exception:  # Each reader has its own ways of not opening a file.
                    continue
                if answer.returncode:
                    print(f"{name:42} {who:10} opens it, we do not: {answer.stderr.splitlines()[0]}")
                    continue
                info = json.loads(answer.stdout)
                try:
                    reader[3](0, 0, 0, 1, 1)
                except Exception:
                    print(f"{name:42} {who:10} opens it and cannot read it")
                    continue
                done, largest, problems = compare(arguments, path, info, who, reader, random, pathlib.Path(scratch))
                compared, failed = compared + 1, failed + bool(problems)
                verdict = "; ".join(problems) or "equal"
                print(f"{name:42} {who:10} {done} regions, at most {largest} apart: {verdict}", flush=True)
    print(f"{compared} comparisons, {failed} with differences")
    return 1 if failed or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
