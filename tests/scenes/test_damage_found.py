"""Bytes that changed in a file are found wherever its format carries a checksum."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from geores.errors import ReadError
from geores.scenes import open_scene
from geores.scenes.raster import FileRaster

SIDE = 160


def write(path, *, dtype='uint8', count=3, blocks=64, tiled=True, **options):
    """A scene with blocks that repeat, as aerial images have, and noise."""
    random = np.random.default_rng(3)
    rough = random.integers(0, 255, (count, 5, 5)).astype(dtype)
    values = np.kron(rough, np.ones((1, 32, 32), dtype)) // 2
    values = values + random.integers(0, 100, values.shape).astype(dtype)
    shape = {'blockxsize': blocks, 'blockysize': blocks} if tiled else {'blockysize': blocks}
    profile = {'driver': 'GTiff', 'width': SIDE, 'height': SIDE, 'count': count, 'dtype': dtype}
    profile |= {'crs': 'EPSG:32633', 'transform': rasterio.Affine(1, 0, 4e5, 0, -1, 5.8e6)}
    with rasterio.open(
        path, 'w', **(profile | {'tiled': tiled, 'compress': 'deflate'} | shape | options)
    ) as file:
        file.write(values)
    return values


def read(path):
    raster = open_scene(path).rasters[0]
    return raster.read(list(range(1, raster.count + 1)), slice(0, SIDE), slice(0, SIDE))[0]


def read_or_say(path):
    """Pixels of a file; None where an error names the file and the window."""
    try:
        return read(path)
    except ReadError as error:
        if f'{path}: cannot read rows 0:160, columns 0:160' not in str(error):
            raise AssertionError(f'not said: {error}') from error
        return None


def spans(path, count=1):
    """Offset and size of all blocks."""
    with rasterio.open(path) as file:
        down, across = (-(-SIDE // side) for side in file.block_shapes[0])
        return [
            tuple(
                int(file.get_tag_item(f'BLOCK_{what}_{x}_{y}', 'TIFF', bidx=band))
                for what in ('OFFSET', 'SIZE')
            )
            for band in range(1, count + 1)
            for y in range(down)
            for x in range(across)
        ]


KINDS = {
    'pixels': {},
    'bands': {'interleave': 'band'},
    'strips': {'tiled': False, 'blocks': 48},
    'predictor': {'predictor': 2, 'dtype': 'uint16'},
    'floats': {'predictor': 3, 'dtype': 'float32'},
    'big': {'BIGTIFF': 'YES', 'ENDIANNESS': 'BIG', 'dtype': 'int16'},
    'sparse': {'SPARSE_OK': 'TRUE', 'zlevel': 1},
}


@pytest.mark.parametrize('kind', KINDS)
def test_sound_files_are_read(tmp_path, kind):
    expected = write(tmp_path / 'a.tif', **KINDS[kind])
    assert np.array_equal(read(tmp_path / 'a.tif'), expected)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('how', ['hole', 'flip', 'swap', 'tail', 'end'])
def test_changed_bytes_of_deflated_blocks(tmp_path, kind, how):
    """Whatever changed: an error with file and window, or the very pixels."""
    path, changed = tmp_path / 'a.tif', tmp_path / 'b.tif'
    expected = write(path, **KINDS[kind])
    content, random = path.read_bytes(), np.random.default_rng(len(kind) + len(how))
    blocks = spans(path, 3 if kind == 'bands' else 1)
    for _ in range(8):
        offset, size = blocks[random.integers(len(blocks))]
        data, at = bytearray(content), offset + int(random.integers(2, size - 40))
        if how == 'hole':
            data[at : at + 30] = bytes(30)
        elif how == 'flip':
            data[at] ^= 1 << int(random.integers(8))
        elif how == 'swap':
            data[at : at + 20] = data[at + 20 : at + 40]
        elif how == 'tail':  # the checksum itself
            data[offset + size - 1] ^= 1
        else:
            del data[max(one + length for one, length in blocks) - 3 :]
        changed.write_bytes(data)
        if (found := read_or_say(changed)) is not None:
            assert np.array_equal(found, expected), 'wrong pixels without an error'


def test_only_blocks_of_the_window_are_looked_at_and_each_once(tmp_path, monkeypatch):
    from geores.scenes import blocks

    expected, seen = write(tmp_path / 'a.tif'), []
    check = blocks._check_deflated
    monkeypatch.setattr(blocks, '_check_deflated', lambda *args: (seen.append(args[1]), check(*args)))
    raster = FileRaster(str(tmp_path / 'a.tif'))
    for _ in range(2):
        values, _ = raster.read([2], slice(70, 100), slice(0, 64))
        assert np.array_equal(values[0], expected[1, 70:100, :64])
    assert len(seen) == 1
    raster.read([1], slice(0, SIDE), slice(0, SIDE))
    assert len(seen) == 9


def test_a_block_that_was_never_written_is_no_damage(tmp_path):
    values = write(tmp_path / 'a.tif')
    values[:, 64:128, 64:128] = 0
    with rasterio.open(tmp_path / 'a.tif') as file:
        profile = file.profile
    with rasterio.open(tmp_path / 's.tif', 'w', **profile, SPARSE_OK='TRUE') as file:
        file.write(values)
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    found, valid = open_scene(tmp_path / 's.tif').rasters[0].read([1], slice(0, SIDE), slice(0, SIDE))
    assert np.array_equal(found[0], values[0])
    assert not valid[64:128, 64:128].any()
    assert valid[:64].all()


def test_a_block_that_would_fill_memory(tmp_path):
    """A stream that decodes to far more than the block holds is refused, and is not decoded whole."""
    import tracemalloc
    import zlib

    path = tmp_path / 'a.tif'
    write(path, blocks=64)
    offset, size = max(spans(path), key=lambda span: span[1])
    bomb = zlib.compress(bytes(6_000_000), 9)[:size]
    data = bytearray(path.read_bytes())
    data[offset : offset + len(bomb)] = bomb
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ReadError, match='has changed'):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def changed_at(path, offset, size, length=40):
    """Zero some bytes in the middle of a block."""
    data = bytearray(path.read_bytes())
    middle = offset + size // 2
    data[middle : middle + length] = bytes(length)
    path.write_bytes(data)


def test_reduced_reads_without_overviews(tmp_path):
    """Pixels that decide the display range and the border are read coarsely: from all blocks, here."""
    path = tmp_path / 'a.tif'
    write(path)
    expected = FileRaster(str(path)).read_coarse(1, 40)[0]
    assert expected.shape == (40, 40)
    changed_at(path, *spans(path)[4])
    with pytest.raises(ReadError, match=r'a\.tif: cannot read rows 0:160, columns 0:160 .* has changed'):
        FileRaster(str(path)).sample(1, 40)


@pytest.mark.parametrize('kind', ['cog', 'inside', 'external'])
@pytest.mark.parametrize('where', ['overview', 'pixels'])
def test_reduced_reads_of_overviews(tmp_path, kind, where):
    """What is read is compared: the overview that is taken, and not the pixels themselves."""
    from rasterio.shutil import copy

    path, source = tmp_path / 'a.tif', tmp_path / 's.tif'
    write(source if kind == 'cog' else path)
    if kind == 'cog':
        copy(source, path, driver='COG', compress='deflate', blocksize=128, overview_count=1)
    else:
        outside = {'TIFF_USE_OVR': kind == 'external', 'COMPRESS_OVERVIEW': 'DEFLATE'}
        with rasterio.Env(**outside), rasterio.open(path, 'r+') as file:
            file.build_overviews([2, 4])
    expected = FileRaster(str(path)).read_coarse(1, 80)[0]
    assert np.array_equal(expected, rasterio.open(path).read(1, out_shape=(80, 80)))
    with rasterio.open(path, **({} if where == 'pixels' else {'overview_level': 0})) as file:
        span = [int(file.get_tag_item(f'BLOCK_{what}_0_0', 'TIFF', bidx=1)) for what in ('OFFSET', 'SIZE')]
    changed_at(tmp_path / 'a.tif.ovr' if kind == 'external' and where == 'overview' else path, *span)
    if where == 'pixels':
        assert np.array_equal(FileRaster(str(path)).read_coarse(1, 80)[0], expected)
    elif kind != 'external':  # of a file of their own the sums are not compared
        with pytest.raises(ReadError, match='has changed'):
            FileRaster(str(path)).read_coarse(1, 80)


def test_reference_maps_of_reben(tmp_path):
    """They are deflated, and read by GDAL."""
    from geores.bigearthnet.tiffs import read_tiff

    path = tmp_path / 'map.tif'
    expected = write(path, dtype='uint16', count=1, predictor=2)
    assert np.array_equal(read_tiff(path), expected[0])
    changed_at(path, *spans(path)[3])
    with pytest.raises(ReadError, match=r'map\.tif: cannot be read: .* has changed'):
        read_tiff(path)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_chunks_of_png(tmp_path):
    """PNG has a CRC of every chunk, which its reader compares."""
    values = write(tmp_path / 'a.tif')
    path = tmp_path / 'a.png'
    with rasterio.open(path, 'w', driver='PNG', width=SIDE, height=SIDE, count=3, dtype='uint8') as file:
        file.write(values)
    content, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(20):
        data = bytearray(content)
        data[int(random.integers(60, len(data) - 30))] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        with pytest.raises(OSError, match=r'a\.png'):
            read(path)
