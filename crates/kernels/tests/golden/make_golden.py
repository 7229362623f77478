"""Prints golden.rs: one picture and what scikit-image and SciPy make of it.

    python make_golden.py > golden.rs     (scikit-image 0.26.0, scipy 1.17.1, numpy 2.4.6)
"""
import numpy as np
import scipy
import scipy.ndimage as ndi
import skimage
from skimage.draw import polygon
from skimage.filters import threshold_otsu
from skimage.measure import regionprops
from skimage.morphology import closing, disk, erosion, opening
from skimage.segmentation import watershed

WIDTH, HEIGHT = 23, 17


def const(name, kind, values):
    """One Rust array, wrapped at 100 characters."""
    words = [str(value) for value in values]
    print(f"pub(crate) const {name}: [{kind}; {len(words)}] = [")
    line = "   "
    for word in words:
        if len(line) + len(word) > 100:
            print(line)
            line = "   "
        line += f" {word},"
    print(line + "\n];")


def floats(values, precision=np.float64):
    """Shortest decimals that give back the numbers at the precision that Rust keeps."""
    return [str(precision(value)) for value in np.ravel(values)]


def picture():
    """Eight bumps and noise, in thirty-seconds, so that float32 holds it exactly and a few pixels tie."""
    random = np.random.RandomState(7)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    values = np.zeros((HEIGHT, WIDTH))
    for _ in range(8):
        centre_x, centre_y, radius = random.rand() * WIDTH, random.rand() * HEIGHT, 1.5 + 2 * random.rand()
        values += 4 * np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * radius**2))
    return np.round((values + 0.6 * random.rand(HEIGHT, WIDTH)) * 32) / 32


def main():
    versions = f"scikit-image {skimage.__version__}, scipy {scipy.__version__}, numpy {np.__version__}"
    print(f"//! Printed by make_golden.py with {versions}.\n")
    print(f"pub(crate) const WIDTH_PX: usize = {WIDTH};\npub(crate) const HEIGHT_PX: usize = {HEIGHT};")
    values = picture()
    threshold = threshold_otsu(values)
    mask = values > threshold
    distance = ndi.distance_transform_edt(mask)
    const("VALUES", "f32", floats(values, np.float32))
    const("OTSU", "f32", floats([threshold], np.float32))
    blurred = ndi.gaussian_filter(values, 1.5, mode="reflect", truncate=4)
    const("GAUSSIAN_1_5", "f32", floats(blurred, np.float32))
    const("MASK", "u8", mask.astype(int).ravel())
    const("DISTANCE_PX", "f32", floats(distance, np.float32))
    const("ERODED_1", "u8", erosion(mask, disk(1)).astype(int).ravel())
    const("OPENED_2", "u8", opening(mask, disk(2)).astype(int).ravel())
    const("CLOSED_2", "u8", closing(mask, disk(2)).astype(int).ravel())

    flooded = values > threshold / 2
    seeds = np.random.RandomState(8).choice(np.flatnonzero(flooded), 7, replace=False)
    markers = np.zeros((HEIGHT, WIDTH), np.int32)
    markers.flat[seeds] = np.arange(1, 8)
    const("MARKERS", "u32", markers.ravel())
    const("FLOODED", "u8", flooded.astype(int).ravel())
    four = watershed(-values, markers, 1, mask=flooded)
    const("WATERSHED_FOUR", "u32", four.ravel())
    const("WATERSHED_EIGHT", "u32", watershed(-values, markers, 2, mask=flooded).ravel())

    print("/// Id, area, centroid x and y, box, perimeter, eccentricity, solidity, axes, orientation.")
    print("pub(crate) const REGIONS: &[[f64; 14]] = &[")
    for region in regionprops(four):
        (cy, cx), (min_y, min_x, max_y, max_x) = region.centroid, region.bbox
        numbers = [region.label, region.area, cx, cy, min_x, min_y, max_x, max_y, region.perimeter]
        numbers += [region.eccentricity, region.solidity, region.axis_major_length, region.axis_minor_length]
        print("    [" + ", ".join(floats(numbers + [region.orientation])) + "],")
    print("];")

    corners = np.array([[2.3, 1.1], [20.7, 3.4], [12.2, 8.9], [19.6, 15.8], [3.5, 14.2], [9.1, 7.3]])
    filled = np.zeros((HEIGHT, WIDTH), int)
    filled[polygon(corners[:, 1], corners[:, 0], (HEIGHT, WIDTH))] = 1
    const("POLYGON_XY", "f64", floats(corners))
    const("POLYGON_FILLED", "u8", filled.ravel())

    rgb = np.random.RandomState(9).randint(1, 256, (24, 3)).astype(np.uint8)
    two = [np.array(v) / np.linalg.norm(v) for v in ([0.650, 0.704, 0.286], [0.072, 0.990, 0.105])]
    third = np.cross(*two)
    stains = np.array([*two, third / np.linalg.norm(third)])
    density = -np.log10(rgb.astype(float) / 255)
    const("RGB", "u8", rgb.ravel())
    const("CONCENTRATIONS", "f32", floats(density @ np.linalg.inv(stains), np.float32))


main()
