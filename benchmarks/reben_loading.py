"""Loading reBEN patches: torchgeo on the released TIFFs, and geores on TIFFs and LMDB.

    python benchmarks/reben_loading.py [--patches 600] [--seconds 0.4] [--cores 1 2] [--device cuda]

The 24 + 24 real patches that the package configilm ships are exported to TIFFs in the released layout,
repeated under other names, and converted with `geores convert`. Every reader gives the 14 channels
VV VH + 12 bands at 120 x 120 float32 (native: as stored), in an order that is shuffled, from a warm file
cache. Each reader runs in a process on each core; short rounds alternate, and the best one counts. torchgeo
gets the GDAL options that geores would use, and is spared the map that its samples have besides.
"""

import argparse
import functools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import torch

    from geores.datasets import ReBEN

BATCH = 64
PRODUCT = 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP'
S1_PRODUCT = 'S1A_IW_GRDH_1SDV_20170613T165043'
GDAL = {'GDAL_DISABLE_READDIR_ON_OPEN': 'EMPTY_DIR', 'GDAL_NUM_THREADS': '1'}
ROUNDS = 10
Read = Callable[[list[int]], object]


def make_patches(root: Path, count: int) -> None:
    """Write `count` pairs of patches in every layout."""
    from geores.bigearthnet.convert import convert_reben

    origin = find_spec('configilm').origin  # fails where configilm is not installed
    real = Path(origin).parent / 'extra/mock_data/BENv2'
    repeat_lmdb(real / 'BigEarthNet-V2-LMDB', root / 'many', count)
    write_table(root / 'many', count)
    for form in ('tiff', 'lmdb'):
        convert_reben(root / 'many', root / form, form, jobs=os.cpu_count() or 1)
    (root / 'tiff/Reference_Maps').mkdir(exist_ok=True)  # torchgeo looks for it


def names(count: int) -> list[tuple[str, str]]:
    """Names of Sentinel-2 patches and their partners."""
    places = [(index % 91, index // 91) for index in range(count)]
    return [(f'{PRODUCT}_{x:02d}_{y:02d}', f'{S1_PRODUCT}_33UUP_{x}_{y}') for x, y in places]


def repeat_lmdb(source: Path, folder: Path, count: int) -> None:
    import lmdb

    with lmdb.open(str(source), readonly=True, lock=False) as env, env.begin() as txn:
        values = [(bytes(key), bytes(value)) for key, value in txn.cursor()]
    of_s1 = [value for key, value in values if key.startswith(b'S1')]
    of_s2 = [value for key, value in values if key.startswith(b'S2')]
    folder.mkdir()
    with lmdb.open(str(folder), map_size=2**40, lock=False) as env, env.begin(write=True) as txn:
        for index, (s2, s1) in enumerate(names(count)):
            txn.put(s2.encode(), of_s2[index % len(of_s2)])
            txn.put(s1.encode(), of_s1[index % len(of_s1)])


def write_table(folder: Path, count: int) -> None:
    rows = [
        {
            'patch_id': s2, 'labels': ['Arable land', 'Pastures'], 'split': 'train', 'country': 'Austria',
            's1_name': s1, 's2v1_name': s2, 'contains_seasonal_snow': False,
            'contains_cloud_or_shadow': False,
        }
        for s2, s1 in names(count)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / 'metadata.parquet')


def torchgeo_tiffs(root: Path, count: int, device: str) -> Read:
    import rasterio
    import torch
    from torchgeo.datasets import BigEarthNetV2

    dataset = BigEarthNetV2(str(root / 'tiff'), split='train', bands='all')
    env = rasterio.Env(**GDAL)
    env.__enter__()

    def read(indices: list[int]) -> None:
        for index in indices:
            torch.cat([dataset._load_image(index, 's1'), dataset._load_image(index, 's2')])

    return read


def dataset_of(root: Path, form: str, interpolation: str = 'nearest') -> 'ReBEN':
    from geores.datasets import ReBEN

    return ReBEN(root / form, 'train', 'all-full', interpolation)


def samples(form: str, root: Path, count: int, device: str) -> Read:
    dataset = dataset_of(root, form)

    def read(indices: list[int]) -> None:
        for index in indices:
            dataset[index]

    return read


def batches(form: str, root: Path, count: int, device: str) -> Read:
    dataset = dataset_of(root, form)
    out = np.zeros((BATCH, len(dataset.bands), 120, 120), np.float32)
    return lambda indices: dataset.read_batch(indices, out[: len(indices)])


def native(form: str, root: Path, count: int, device: str) -> Read:
    from geores.bigearthnet.opening import open_store
    from geores.bigearthnet.stores import S1_BANDS, S2_BANDS

    store = open_store(root / form)
    of_s2, of_s1 = zip(*names(count), strict=True)
    move = functools.partial(to_device, device=device) if device != 'cpu' else None

    def read(indices: list[int]) -> None:
        s1 = store.read_native([of_s1[index] for index in indices], S1_BANDS)
        s2 = store.read_native([of_s2[index] for index in indices], S2_BANDS)
        if move is not None:
            move(s1, s2)

    return read


def to_device(s1: dict[int, np.ndarray], s2: dict[int, np.ndarray], device: str) -> 'torch.Tensor':
    """Bring native sizes to a device, and there to one grid."""
    import torch

    from geores.bigearthnet.stores import S1_BANDS, S2_BANDS
    from geores.datasets import expand

    keys = {120: 'image_10m', 60: 'image_20m', 20: 'image_60m'}
    batch = {keys[side]: torch.from_numpy(stack).to(device) for side, stack in s2.items()}
    image = expand({'image_s1': torch.from_numpy(s1[120]).to(device), **batch}, (*S1_BANDS, *S2_BANDS))
    torch.cuda.synchronize()
    return image


def copies(root: Path, count: int, device: str) -> Read:
    """A bare copy of as many bytes, from memory to memory."""
    many = np.ones((min(count, 512), 14, 120, 120), np.float32)
    out = np.zeros((BATCH, 14, 120, 120), np.float32)

    def read(indices: list[int]) -> None:
        for place, index in enumerate(indices):
            out[place] = many[index % len(many)]

    return read


READERS = {
    'torchgeo, TIFFs': torchgeo_tiffs,
    'geores, TIFFs': functools.partial(samples, 'tiff'),
    'geores, LMDB': functools.partial(samples, 'lmdb'),
    'geores, LMDB, batches': functools.partial(batches, 'lmdb'),
    'geores, LMDB, native batches': functools.partial(native, 'lmdb'),
    'bare copy of memory': copies,
}


def work(core: int, root: Path, count: int, device: str, pipe: Connection) -> None:
    """A process that reads on one core when it is told to, and says how many patches a second."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {core})
    import torch

    torch.set_num_threads(1)
    order = np.random.default_rng(core).permutation(count).tolist()
    readers = {}
    while (told := pipe.recv()) is not None:
        name, seconds = told
        if name not in readers:
            readers[name] = READERS[name](root, count, device)
            readers[name](order[:BATCH])
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            first = done % (count // BATCH * BATCH)
            readers[name](order[first : first + BATCH])
            done += BATCH
        pipe.send(done / (time.perf_counter() - began))


def measure(root: Path, args: argparse.Namespace, cores: int) -> dict[str, float]:
    """Patches a second of every reader, on some cores together."""
    context = multiprocessing.get_context('spawn')
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else list(range(cores))
    pipes, processes = [], []
    for core in allowed[:cores]:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(core, root, args.patches, args.device, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    best = dict.fromkeys(READERS, 0.0)
    for _ in range(ROUNDS):
        for name in READERS:
            for pipe in pipes:
                pipe.send((name, args.seconds))
            best[name] = max(best[name], sum(pipe.recv() for pipe in pipes))
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join()
    return best


def compare(root: Path) -> None:
    """Hold the readers' tensors against each other."""
    import torch
    from torchgeo.datasets import BigEarthNetV2

    ours, theirs = dataset_of(root, 'tiff')[3]['image'], BigEarthNetV2(str(root / 'tiff'), split='train')
    stored = dataset_of(root, 'lmdb')
    for other in (stored[3]['image'], torch.from_numpy(stored.read_batch([3]))[0]):
        if not torch.equal(ours, other):
            raise SystemExit('TIFFs and LMDB do not give the same patch')
    s1, s2 = theirs._load_image(3, 's1')[[1, 0]], theirs._load_image(3, 's2')
    ten = torch.equal(ours[[3, 4, 5, 9]], s2[[1, 2, 3, 7]])  # B02 B03 B04 B08
    away = torch.equal(s1, (ours[:2] + 0.5 * ours[:2].sign()).trunc())
    print('the same tensor from TIFFs and LMDB')
    print(f'torchgeo: bands of 10 m are equal: {ten}; Sentinel-1 is equal: {torch.equal(s1, ours[:2])}')
    print(f'torchgeo: Sentinel-1 is equal to ours rounded to whole dB: {away}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--patches', type=int, default=600)
    parser.add_argument('--seconds', type=float, default=0.4)
    parser.add_argument('--cores', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--device', default='cpu', help='where native sizes are expanded')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_patches(root, args.patches)
        compare(root)
        for cores in args.cores:
            rates = measure(root, args, cores)
            print(f'\n{cores} core(s): patches/s, times torchgeo')
            for reader, rate in rates.items():
                print(f'{reader:34} {rate:10,.0f} {rate / rates["torchgeo, TIFFs"]:8.1f}')


if __name__ == '__main__':
    main()
