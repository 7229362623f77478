"""Makes streams.bin: small JPEG streams of all extents and samplings, and what libjpeg-turbo decodes them to.

For each stream four little-endian numbers of 32 bits (width, height, bytes of the stream, 1 for grey), the stream, and
its pixels (RGB, row-major). Made with Pillow 13.0.0 (libjpeg-turbo 3.2.0) and imagecodecs 2026.3.6; run it in this folder.
"""

import io
import struct

import imagecodecs
import numpy as np
from PIL import Image

random = np.random.default_rng(20261122)
with open("streams.bin", "wb") as file:
    for index in range(60):
        width, height = random.integers(1, 20, 2) if index % 2 else random.integers(14, 36, 2)
        down, right = np.mgrid[0:height, 0:width]
        waves = [np.sin(right / random.uniform(1, 9) + phase) * np.cos(down / random.uniform(1, 9)) for phase in range(3)]
        pixels = (127 + 90 * np.stack(waves, 2) + random.normal(0, 40, (height, width, 3))).clip(0, 255).astype(np.uint8)
        sampling = ["444", "422", "420", "440", "grey"][index % 5]
        quality = [10, 50, 80, 95, 100][index // 5 % 5]
        if sampling == "440":
            stream = imagecodecs.jpeg8_encode(pixels, level=quality, subsampling=sampling)
        else:
            picture = Image.fromarray(pixels)
            options = {} if sampling == "grey" else {"subsampling": ["444", "422", "420"].index(sampling)}
            if index % 3 == 0:
                options["restart_marker_blocks"] = 1 + index % 4
            buffer = io.BytesIO()
            picture = picture.convert("L") if sampling == "grey" else picture
            picture.save(buffer, "JPEG", quality=quality, optimize=bool(index % 2), **options)
            stream = buffer.getvalue()
        decoded = np.asarray(Image.open(io.BytesIO(stream)).convert("RGB"))
        file.write(struct.pack("<4I", width, height, len(stream), sampling == "grey") + stream + decoded.tobytes())
