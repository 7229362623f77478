"""Makes the sample pictures of this folder, and beside each what Pillow or tifffile decodes from it: NAME.rgb, 8-bit
RGB, row-major, composited on white. Made with Pillow 13.0.0 (libjpeg-turbo, libtiff) and tifffile 2026.3.3; run it in this folder.
The picture is synthetic: smooth bands in the colours of haematoxylin and eosin, and one white corner."""
import io
import numpy as np
import tifffile
from PIL import Image

WIDTH, HEIGHT = 37, 23
x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
wave = (np.sin(x / 4.0) + np.cos(y / 3.0) + 2) / 4
RGB = np.stack([90 + 140 * wave, 60 + 130 * wave * (y / HEIGHT), 140 + 70 * wave], axis=2).round().astype(np.uint8)
RGB[:5, :6] = 255
ALPHA = np.where((x + y) % 5 == 0, 0, np.where(x > 20, 255, 100)).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
picture = Image.fromarray(RGB)


def on_white(rgba):
    colour, alpha = rgba[..., :3].astype(int), rgba[..., 3:].astype(int)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def keep(name, expected):
    open(name + ".rgb", "wb").write(np.ascontiguousarray(expected, dtype=np.uint8).tobytes())


def by_pillow(name, image, expected=None, **options):
    image.save(name, **options)
    keep(name, np.asarray(Image.open(name).convert("RGB")) if expected is None else expected)


def by_tifffile(name, array, expected=RGB, **options):
    tifffile.imwrite(name, array, metadata=None, software=False, **options)
    keep(name, expected)


for name, options in {
    "444": dict(subsampling=0), "420": dict(subsampling=2), "422": dict(subsampling=1),
    "progressive": dict(subsampling=2, progressive=True), "adobe_rgb": dict(keep_rgb=True),
    "restarts_500nm": dict(restart_marker_rows=1, dpi=(50800, 50800)), "screen_dpi": dict(dpi=(96, 96)),
}.items():
    by_pillow(f"{name}.jpg", picture, quality=92, **options)
by_pillow("grey.jpg", picture.convert("L"), quality=92)
by_pillow("cmyk.jpg", picture.convert("CMYK"), quality=92)

grey = np.asarray(picture.convert("L"))
grey3 = np.repeat(grey[..., None], 3, axis=2)
by_pillow("rgb_250nm.png", picture, dpi=(101600, 101600))
by_pillow("rgba.png", Image.fromarray(RGBA), on_white(RGBA))
by_pillow("grey.png", picture.convert("L"))
by_pillow("grey_alpha.png", Image.fromarray(np.dstack([grey, ALPHA])), on_white(np.dstack([grey3, ALPHA])))
by_pillow("grey_16.png", Image.fromarray(grey.astype(np.uint16) * 257), grey3)
by_pillow("palette.png", picture.quantize(16))
by_pillow("bilevel.png", picture.convert("1"))

by_pillow("rgb.bmp", picture)
by_pillow("palette.bmp", picture.quantize(16))
by_pillow("bilevel.bmp", picture.convert("1"))

for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
    by_pillow(f"palette_{compression}.tif", picture.quantize(32), compression=compression)
by_pillow("bilevel_group4.tif", picture.convert("1"), compression="group4")
by_pillow("cmyk.tif", picture.convert("CMYK"), compression="tiff_lzw")
by_pillow("jpeg_ycbcr_strips.tif", picture.convert("YCbCr"), compression="jpeg", quality=92)
by_pillow("jpeg_rgb_strips.tif", picture, compression="jpeg", quality=92)

sixteen = RGB.astype(np.uint16) * 257
rgb, bands = dict(photometric="rgb"), RGB.transpose(2, 0, 1).copy()
by_tifffile("tiles.tif", RGB, tile=(16, 16), **rgb)
by_tifffile("tiles_predicted.tif", RGB, tile=(16, 16), compression="zlib", predictor=True, **rgb)
by_tifffile("planar_tiles.tif", bands, tile=(16, 16), planarconfig="separate", **rgb)
by_tifffile("planar_strips_500nm.tif", bands, rowsperstrip=4, planarconfig="separate", compression="zlib",
            resolution=(20000, 20000), resolutionunit="CENTIMETER", **rgb)
by_tifffile("sixteen_big_endian.tif", sixteen, byteorder=">", compression="zlib", predictor=True, **rgb)
by_tifffile("sixteen_bigtiff_big_endian.tif", sixteen, byteorder=">", bigtiff=True, rowsperstrip=5, **rgb)
by_tifffile("rgba_straight.tif", RGBA, on_white(RGBA), extrasamples=["unassalpha"], **rgb)
premultiplied = np.dstack([(RGB.astype(int) * ALPHA[..., None] // 255).astype(np.uint8), ALPHA])
by_tifffile("rgba_premultiplied.tif", premultiplied, premultiplied[..., :3] + (255 - premultiplied[..., 3:]),
            extrasamples=["assocalpha"], **rgb)
by_tifffile("five_channels_predicted.tif", np.dstack([RGBA, ALPHA]), extrasamples=[0, 0], compression="zlib",
            predictor=True, **rgb)
by_tifffile("white_is_zero.tif", grey, 255 - grey3, photometric="miniswhite")
by_tifffile("three_greys.tif", RGB, photometric="minisblack", planarconfig="contig")
by_tifffile("aperio_499nm.tif", RGB, description="Aperio Image|AppMag = 20|MPP = 0.499|Left = 3", **rgb)
tifffile.imwrite("imagej_250nm.tif", RGB, imagej=True, resolution=(4, 4), metadata={"unit": "um"})
keep("imagej_250nm.tif", RGB)
tifffile.imwrite("ome_250nm.tif", RGB, ome=True, metadata={
    "axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm",
    "UUID": "urn:uuid:00000000-0000-0000-0000-000000000000"}, **rgb)
keep("ome_250nm.tif", RGB)
with tifffile.TiffWriter("pages.tif") as file:
    plain = dict(metadata=None, software=False, **rgb)
    file.write(RGB[::2, ::2].copy(), subfiletype=1, **plain)
    file.write(RGB, **plain)
    file.write(RGB[::-1].copy(), **plain)
keep("pages.tif", RGB)

# Tiles of JPEG streams that share their tables; RGB by its tag, while the streams say YCbCr, as Bio-Formats writes.
stream = io.BytesIO()
picture.save(stream, "jpeg", quality=92, subsampling=2)
stream = stream.getvalue()
template = io.BytesIO()
tifffile.imwrite(template, np.zeros((HEIGHT, WIDTH, 3), np.uint8), metadata=None, software=False,
                 rowsperstrip=HEIGHT, **rgb)
data = bytearray(template.getvalue())
template.seek(0)
with tifffile.TiffFile(template) as file:
    tags = file.pages[0].tags
    start = tags["StripOffsets"].value[0]
    data[start:] = stream
    patch = {"Compression": 7, "StripByteCounts": len(stream)}
    for name, value in patch.items():
        at, width = tags[name].valueoffset, {3: 2, 4: 4}[int(tags[name].dtype)]
        data[at:at + width] = value.to_bytes(width, "little")
open("jpeg_ycbcr_under_rgb.tif", "wb").write(data)
keep("jpeg_ycbcr_under_rgb.tif", np.asarray(Image.open(io.BytesIO(stream)).convert("RGB")))
