"""Makes streams.bin: small JPEG-LS streams of all interleavings, and what CharLS decodes them to.

For each stream six little-endian numbers of 32 bits (width, height, components, bits, bytes of the stream, seed), the stream, and its
samples (16 bits, little-endian, row-major, interleaved). Made with pyjpegls 1.5.1 (CharLS); run it in this folder.
"""

import struct

import numpy as np
from jpeg_ls import decode_buffer, encode_buffer

with open("streams.bin", "wb") as file:
    for index in range(36):
        random = np.random.default_rng(index)
        interleave = [None, 0, 1, 2][index % 4]
        bits = 8 if interleave is not None else [8, 12, 16][index // 4 % 3]
        near = [0, 0, 2][index // 4 % 3]
        components = 1 if interleave is None else 3
        width, height = (int(length) for length in random.integers(10, 40, 2))
        down, right = np.mgrid[0:height, 0:width]
        smooth = np.stack([np.sin(right / random.uniform(2, 20)) * np.cos(down / random.uniform(2, 20)) for _ in range(components)], 2)
        noise = random.normal(0, random.choice([0, 0.01, 0.04]), smooth.shape)
        # Even parts, so that there are runs.
        even = np.where((right // 9 + down // 7)[..., None] % 2, 0.4, smooth + noise)
        most = 2**bits - 1
        pixels = ((even + 1) / 2 * most).clip(0, most).astype(np.uint8 if bits == 8 else np.uint16)
        # CharLS takes planes where components lie apart, and pixels else, also where they lie line by line.
        order = (2, 0, 1) if interleave == 0 else (0, 1, 2)
        ordered = np.ascontiguousarray(pixels.transpose(order))
        stream = bytes(encode_buffer(ordered.tobytes(), height, width, components, bits, near, interleave or 0))
        decoded = np.frombuffer(decode_buffer(stream)[0], pixels.dtype).reshape(ordered.shape).transpose(np.argsort(order))
        assert np.abs(decoded.astype(int) - pixels.astype(int)).max() <= near
        file.write(struct.pack("<6I", width, height, components, bits, len(stream), index))
        file.write(stream + decoded.astype("<u2").tobytes())
