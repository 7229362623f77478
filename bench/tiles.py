"""Reads the tiles of a slide with OpenSlide, in threads, and prints how many a second.

    python bench/tiles.py SLIDE THREADS TILES

Beside it: cargo run --release -p microtome-slide --example tiles_speed -- SLIDE THREADS TILES
Needs openslide-python and openslide-bin.
"""

import sys
import threading
import time

import openslide

TILE = 256


def main(path, threads, count):
    slide = openslide.OpenSlide(path)
    width, height = slide.dimensions
    across, down = width // TILE, height // TILE
    # A stride that visits tiles all over the slide, each once.
    places = [(i * 7919) % (across * down) for i in range(min(int(count), across * down))]

    def read(part):
        for place in part:
            slide.read_region((place % across * TILE, place // across * TILE), 0, (TILE, TILE))

    workers = [threading.Thread(target=read, args=(places[i :: int(threads)],)) for i in range(int(threads))]
    started = time.perf_counter()
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    seconds = time.perf_counter() - started
    print(f"OpenSlide {openslide.__library_version__}, {threads} threads: {len(places) / seconds:.0f} tiles a second")


if __name__ == "__main__":
    main(*sys.argv[1:])
