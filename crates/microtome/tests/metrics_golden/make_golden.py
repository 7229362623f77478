"""The numbers and fixtures that the Rust tests hold, computed apart from the program: naive loops over sets of pixels.

python make_golden.py          prints the Rust table of main.rs
python make_golden.py DIR      also writes the MAT-file fixtures into DIR (needs scipy)
"""
import struct
import sys

import numpy as np

WIDTH, HEIGHT = 64, 48


def hashed(cell, seed):
    return (((cell + 1) * 2654435761 + seed * 40503) % 2**32) >> 16


def label_map(seed, shift):
    """Discs of varied size on a grid, some left out, some joined to their left neighbour, with unsorted ids."""
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            column, row = (x + shift) // 9, y // 8
            cell = column + 31 * row
            h = hashed(cell, seed)
            inside = ((x + shift) % 9 - 4) ** 2 + (y % 8 - 4) ** 2 <= 4 + h % 16
            if inside and h // 16 % 5 != 0:
                owner = cell - 1 if h // 128 % 4 == 0 and column > 0 else cell
                ids[y, x] = 1 + owner * 7 % 1009
    return ids


def pixels(ids):
    return {i: set(map(tuple, np.argwhere(ids == i))) for i in sorted(set(ids.ravel()) - {0})}


def scores(predicted, truth):
    t, p = pixels(truth), pixels(predicted)
    tf, pf = set().union(*t.values()), set().union(*p.values())
    if not t and not p:
        return [1.0] * 9
    dice = 2 * len(tf & pf) / (len(tf) + len(pf))
    iou = len(tf & pf) / len(tf | pf)
    ious = {(i, j): len(a & b) / len(a | b) for i, a in t.items() for j, b in p.items()}
    inter = union = 0
    used = set()
    for i, a in t.items():
        best = max(p, key=lambda j: (ious[i, j], -j), default=None)
        if best is None or ious[i, best] == 0:
            union += len(a)
        else:
            inter, union = inter + len(a & p[best]), union + len(a | p[best])
            used.add(best)
    union += sum(len(b) for j, b in p.items() if j not in used)
    hits = [v for v in ious.values() if v > 0.5]
    dq = 2 * len(hits) / (len(t) + len(p))
    sq = sum(hits) / len(hits) if hits else 0.0
    precision = len(hits) / len(p) if p else 0.0
    recall = len(hits) / len(t) if t else 0.0
    return [dice, iou, inter / union, dq * sq, dq, sq, dq, precision, recall]


CASES = [(1, 0, 1, 0), (1, 0, 1, 1), (1, 0, 1, 2), (2, 0, 3, 1), (4, 3, 4, 0), (5, 0, 6, 4)]


def print_table():
    rows = []
    for true_seed, true_shift, seed, shift in CASES:
        truth, predicted = label_map(true_seed, true_shift), label_map(seed, shift)
        row = scores(predicted, truth)
        rows.append(row)
        counts = len(pixels(truth)), len(pixels(predicted))
        print(f'    (({true_seed}, {true_shift}), ({seed}, {shift}), {list(map(float, row))}, {counts}),')
    empty = np.zeros((HEIGHT, WIDTH), np.int64)
    print('one empty', scores(empty, label_map(1, 0)), scores(label_map(1, 0), empty))
    values = np.array(rows)
    draws = np.random.default_rng(7).integers(0, len(rows), (400_000, len(rows)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5], axis=0)
    print('means', values.mean(0).tolist())
    print('low  ', low.round(4).tolist())
    print('high ', high.round(4).tolist())


def big_endian_mat(ids):
    """scipy writes the order of its machine only: a big-endian file of class double, stored as uint16, by hand."""
    def element(kind, data):
        return struct.pack('>II', kind, len(data)) + data + b'\0' * (-len(data) % 8)
    body = element(6, struct.pack('>II', 6, 0)) + element(5, struct.pack('>ii', *ids.shape))
    body += element(1, b'inst_map') + element(4, ids.astype('>u2').tobytes('F'))
    return b'MATLAB 5.0 MAT-file, made by hand'.ljust(124) + struct.pack('>H', 0x0100) + b'MI' + element(14, body)


def write_fixtures(folder):
    from scipy.io import savemat
    from scipy.sparse import csc_matrix
    ids = np.array([[0, 1, 1, 70000], [2, 0, 300, 255]])
    small = ids % 256
    others = {'type_map': np.arange(12.0).reshape(3, 4), 'inst_centroid': np.ones((5, 2)), 'note': 'text', 'cell': np.array([1, 'a'], object)}
    save = lambda name, compress=True, **variables: savemat(f'{folder}/{name}.mat', variables, do_compression=compress)
    save('double_compressed', **others, inst_map=ids.astype(np.float64))
    save('double_plain', False, **others, inst_map=ids.astype(np.float64))
    save('single', inst_map=ids.astype(np.float32))
    save('int32', inst_map=ids.astype(np.int32))
    save('uint32', False, inst_map=ids.astype(np.uint32))
    save('int64', inst_map=ids.astype(np.int64))
    save('uint64', False, inst_map=ids.astype(np.uint64))
    save('uint8', False, inst_map=small.astype(np.uint8))
    save('int16', inst_map=small.astype(np.int16))
    save('uint16', inst_map=small.astype(np.uint16))
    save('inline', False, inst_map=np.array([[3, 0]], np.uint8))
    save('without', **others)
    save('nested', result={'inst_map': ids})
    save('complex', inst_map=ids + 1j)
    save('sparse', inst_map=csc_matrix(ids.astype(float)))
    save('three_dimensions', inst_map=np.zeros((2, 2, 2)))
    save('negative', inst_map=-ids.astype(np.float64))
    save('empty', inst_map=np.zeros((0, 4)))
    save('bomb', inst_map=np.zeros((4096, 4096), np.uint8))
    open(f'{folder}/big_endian.mat', 'wb').write(big_endian_mat(small))
    import glob
    for path in glob.glob(f'{folder}/*.mat'):  # the date of writing is no part of a fixture
        data = bytearray(open(path, 'rb').read())
        data[:116] = b'MATLAB 5.0 MAT-file, fixture'.ljust(116)
        open(path, 'wb').write(bytes(data))


if __name__ == '__main__':
    print_table()
    if len(sys.argv) > 1:
        write_fixtures(sys.argv[1])
