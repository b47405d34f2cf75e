"""Models that label pixels: one path from scene to class map, whatever the tiles and windows."""

import json

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import geores as library
from geores.errors import BundleError, GeoresError, UsageError
from geores.grid import Blocks
from geores.inference.engine import ChunkWork, run
from geores.inference.pixels import ClassSink, LabelPixels, PixelTable
from geores.inference.plan import Plan, plan_chunks
from geores.inference.reader import MemoryStore

from ..fixtures import LABELS, bundle, geores, hold_files, noise, write_scene  # noqa: F401
from ..pixel_fixtures import CONTEXT, onnx_bundle, pixel_bundle, pixel_card, pixel_network  # noqa: F401


@pytest.fixture(scope='module')
def model(pixel_bundle):  # noqa: F811
    return library.load_model(pixel_bundle)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """A scene with a corner of nodata, of odd height and width."""
    values = noise(3, 141, 205)
    values[:, :40, :60] = 0
    return write_scene(tmp_path_factory.mktemp('scenes') / 'scene.tif', values=values, nodata=0)


@pytest.fixture(scope='module')
def result(path, model):
    return library.classify(path, model, precision='fp32')


def test_classes_are_those_of_the_network_over_the_whole_scene(path, model, result):
    with rasterio.open(path) as file:
        pixels = file.read().astype(np.float32)
    invalid = (pixels == 0).all(0)
    pixels[:, invalid] = 120  # the card's mean, which counts as nothing
    whole = np.pad(pixels, ((0, 0), (8, 9), (8, 9)), mode='reflect')  # even in the end
    scores = model.predict(whole[None])[0][:, 8:-9, 8:-9]
    expected = np.where(invalid, 0, scores.argmax(0) + 1)
    assert np.array_equal(result.classes.to_numpy(), expected)
    best = np.where(invalid, np.nan, scores.max(0))
    np.testing.assert_allclose(result.confidence.to_numpy(), best, atol=0.5 / 255 + 1e-6)


def test_arrays_say_where_they_lie_and_what_they_mean(path, result):
    with rasterio.open(path) as file:
        x, y = file.xy(3, 5)
        assert result.classes.rio.crs == file.crs
    assert (result.classes.x[5], result.classes.y[3]) == (x, y)
    assert result.classes.dtype == np.uint8
    assert result.classes.rio.nodata == 0
    assert result.classes.attrs['flag_meanings'].split() == list(LABELS)
    assert result.scores.dims == ('label', 'y', 'x')
    known = ~np.isnan(result.confidence.to_numpy())
    scores = result.scores.to_numpy()
    assert np.isnan(scores[:, ~known]).all()
    np.testing.assert_allclose(scores[:, known].sum(0), 1, atol=0.01)
    assert np.array_equal(scores[:, known].argmax(0) + 1, result.classes.to_numpy()[known]) or (
        np.abs(np.sort(scores[:, known], 0)[-1] - scores[:, known].max(0)).max() < 0.01
    )


def test_areas_and_shares_count_pixels(result):
    counts = np.bincount(result.classes.to_numpy().ravel(), minlength=4)[1:]
    table = result.areas.set_index('label')
    for label, count in zip(LABELS, counts, strict=True):
        assert result.shares[label] == pytest.approx(count / counts.sum(), rel=1e-3)
        if count:
            assert table.loc[label, 'pixels'] == count
            assert table.loc[label, 'area_m2'] == pytest.approx(count * 100, rel=0.01)
    assert result.valid_share == pytest.approx(counts.sum() / result.classes.size)


@pytest.mark.parametrize('tile', [24, 32, 58, 400])
def test_tiles_do_not_matter(path, model, result, tile):
    other = library.classify(path, model, tile=tile, precision='fp32', batch_size=3)
    assert np.array_equal(other.classes.to_numpy(), result.classes.to_numpy())
    assert np.abs(other.confidence - result.confidence).max() <= 1 / 255


@settings(max_examples=15, deadline=None)
@given(left=st.integers(0, 150), top=st.integers(0, 90), width=st.integers(1, 55), height=st.integers(1, 50))
def test_windows_do_not_matter_beyond_the_context(path, model, result, left, top, width, height):
    west, north = 300_000 + 10 * left, 5_800_000 - 10 * top
    box = (west, north - 10 * height, west + 10 * width, north)
    part = library.classify(path, model, bbox=box, precision='fp32')
    inner = np.s_[CONTEXT : height - CONTEXT, CONTEXT : width - CONTEXT]
    whole = result.classes.to_numpy()[top : top + height, left : left + width]
    assert part.classes.shape == (height, width)
    assert np.array_equal(part.classes.to_numpy()[inner], whole[inner])


class Flat:
    """A reader of one value everywhere."""

    def __init__(self, height, width, value):
        self.shape, self.value = (height, width), value

    def read(self, rows, cols):
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        return np.full((1, *shape), self.value, np.float32), np.ones(shape, bool)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    margin=st.integers(0, 9),
    room=st.integers(0, 40),
    step=st.sampled_from([1, 2, 4]),
    origin=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_constant_in_constant_out(height, width, margin, room, step, origin):
    blocks = Blocks(height, width, 2 * (margin + step) + step + room, margin, step, origin)
    assert int(blocks.y.edges[0]) == 0
    assert int(blocks.y.edges[-1]) == height
    assert (np.diff(blocks.x.edges) >= 0).all()
    assert ((blocks.y.starts + origin[0]) % step == 0).all()
    plan = Plan(blocks, plan_chunks(blocks, bytes_per_pixel=1), 2, 0.0)
    keep = LabelPixels(blocks, probabilities=True)

    def step_of(tiles):
        share = torch.from_numpy(tiles) / 10
        return {name: array.numpy() for name, array in keep(torch.cat([share, 1 - share], 1)).items()}

    store = MemoryStore()
    run(ChunkWork(plan, Flat(height, width, 3.0), step_of, [ClassSink(2, probabilities=True)]), store)
    table = PixelTable(plan, store)
    whole = (slice(0, height), slice(0, width))
    assert (table.read('classes', *whole) == 2).all()
    assert (table.read('confidence', *whole) == round(0.7 * 255)).all()
    assert table.read('probabilities', *whole).shape == (2, height, width)
    assert table.counts.sum() == height * width
    part = table.read('classes', *whole, step=3)
    assert part.shape == (-(-height // 3), -(-width // 3))


def test_a_tile_has_to_be_larger_than_its_margins(path, model):
    with pytest.raises(UsageError, match='tile must be at least 14 pixels'):
        library.classify(path, model, tile=12)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'stride': 8}, 'stride is about tiles'),
        ({'threshold': 0.4}, 'threshold is about tiles'),
        ({'top_k': 2}, 'top-k is about tiles'),
        ({'min_area': 10.0}, 'min_area is about polygons'),
        ({'polygons': 'shp'}, 'gpkg or parquet'),
        ({'max_output': 100}, 'more than --max-output'),
    ],
)
def test_what_means_nothing_is_refused(path, model, options, words):
    with pytest.raises(UsageError, match=words):
        library.classify(path, model, **options)


def test_files(path, model, tmp_path):
    out = tmp_path / 'out'
    result = library.classify(path, model, out=out, probabilities=True, polygons='gpkg', precision='fp32')
    with rasterio.open(out / 'scene_classes.tif') as file:
        assert np.array_equal(file.read(1), result.classes.to_numpy())
        assert file.nodata == 0
        assert file.colormap(1)[1][:3] == tuple(int(part) for part in result.legend.rgb[0])
        assert json.loads(file.tags()['GEORES_MODEL_SHA256'].join('""')) == model.sha256
    with rasterio.open(out / 'scene_confidence.tif') as file:
        read = file.read(1) * file.scales[0]
        np.testing.assert_allclose(read, result.confidence.fillna(0), atol=1e-6)
    with rasterio.open(out / 'scene_probabilities.tif') as file:
        read = np.where(file.read() == 255, np.nan, file.read() * file.scales[0])
        np.testing.assert_allclose(read, result.scores.to_numpy(), atol=1e-6)
    record = json.loads((out / 'run.json').read_text())['scenes']['scene']
    assert record['legend'] == {'1': 'water', '2': 'forest', '3': 'field'}
    assert set(record['outputs']) == {'classes', 'confidence', 'probabilities', 'polygons', 'map'}
    assert record['labels'] == pytest.approx(result.shares)
    assert not [name for name in hold_files(out) if 'partial' in name]


def test_the_command_says_areas_and_confidence(geores, path, pixel_bundle, tmp_path):  # noqa: F811
    answer = geores('classify', path, '--model', pixel_bundle, '--out', tmp_path / 'out')
    assert answer.code == 0
    assert 'ha' in answer.out
    assert 'confidence: median' in answer.out
    out = tmp_path / 'json'
    record = geores('classify', path, '--model', pixel_bundle, '--out', out, '--json').records[0]
    assert set(record['outputs']) == {'classes', 'confidence', 'map'}
    assert record['legend']['1'] == 'water'
    assert sum(record['labels'].values()) == pytest.approx(1, abs=1e-5)


def test_colours_can_be_others(path, model, tmp_path):
    colours = tmp_path / 'colours.json'
    colours.write_text('{"forest": "#010203"}')
    result = library.classify(path, model, colours=colours)
    assert result.legend.colour_of['forest'] == '#010203'
    colours.write_text('{"wood": "#010203"}')
    with pytest.raises(UsageError, match="'wood' is no label"):
        library.classify(path, model, colours=colours)


def test_results_show_themselves(result):
    lines = repr(result).splitlines()
    assert len(lines) == 3
    assert 'tiny-pixels: 205 x 141 pixels of 10 m' in lines[0]
    assert 'confidence' in lines[2]
    assert 'data:image/png;base64,' in result._repr_html_()
    assert result.notes[-1].startswith('confidence: median')


class Answers(torch.nn.Module):
    """Gives what it is told to."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        return torch.full((len(images), 3, *images.shape[2:]), self.value)


def test_numbers_that_are_not_finite_are_said(path):
    broken = library.Model(pixel_card(), Answers(float('nan')))
    with pytest.raises(GeoresError, match='not finite'):
        library.classify(path, broken, precision='fp32')


def test_lazy_scenes_give_lazy_maps(model):
    pytest.importorskip('dask')
    import dask.array as da
    import xarray as xr

    values = noise(3, 60, 70)
    chunked = da.from_array(values, chunks=(3, 30, 30))
    array = xr.DataArray(chunked, dims=('band', 'y', 'x'), coords={'band': ['red', 'green', 'blue']})
    lazy = library.classify(array, model, precision='fp32')
    assert lazy.classes.chunks is not None
    eager = library.classify(array.compute(), model, precision='fp32')
    assert np.array_equal(lazy.classes.to_numpy(), eager.classes.to_numpy())


class TestOnnx:
    """Bundles that are ONNX files."""

    def test_they_give_the_same_map(self, path, onnx_bundle, result):  # noqa: F811
        model = library.load_model(onnx_bundle)
        other = library.classify(path, model)
        assert other.info.precision == 'fp32'
        same = other.classes.to_numpy() == result.classes.to_numpy()
        assert same.mean() > 0.999
        scores = model.predict(np.full((1, 3, 12, 18), 90.0, np.float32))
        assert scores.shape == (1, 3, 12, 18)

    def test_channels_may_come_last(self, path, result, tmp_path):
        onnx = pytest.importorskip('onnx')
        helper, shape = onnx.helper, ['n', 'h', 'w', 'c']
        weights = pixel_network().first.weight.detach()[:3, :, 1:2, 1:2].numpy()
        nodes = [
            helper.make_node('Transpose', ['x'], ['t'], perm=[0, 3, 1, 2]),
            helper.make_node('Conv', ['t', 'w'], ['u']),
            helper.make_node('Transpose', ['u'], ['y'], perm=[0, 2, 3, 1]),
        ]
        graph = helper.make_graph(
            nodes, 'g',
            [helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, shape)],
            [onnx.numpy_helper.from_array(weights, 'w')],
        )  # fmt: skip
        file = tmp_path / 'last.onnx'
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)]), file)
        card = pixel_card('last', architecture='onnx', architecture_kwargs={'layout': 'NHWC'}, context=0)
        model = library.load_model(library.save_bundle(tmp_path / 'last', file, card))
        images = torch.rand(2, 3, 6, 4) * 255
        expected = torch.nn.functional.conv2d(model.normalise(images), torch.from_numpy(weights)).softmax(1)
        np.testing.assert_allclose(model.predict(images), expected.numpy(), atol=1e-5)

    def test_other_domains_and_weights_elsewhere_are_refused(self, tmp_path):
        onnx = pytest.importorskip('onnx')
        helper = onnx.helper
        values = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ['n', 3, 'h', 'w']) for name in 'xy'
        ]
        node = helper.make_node('Gelu', ['x'], ['y'], domain='com.microsoft')
        opsets = [helper.make_opsetid('', 17), helper.make_opsetid('com.microsoft', 1)]
        graph = helper.make_graph([node], 'g', values[:1], values[1:])
        model = helper.make_model(graph, opset_imports=opsets)
        file = tmp_path / 'strange.onnx'
        onnx.save(model, file)
        card = pixel_card('strange', architecture='onnx', architecture_kwargs={})
        with pytest.raises(BundleError, match=r"operators of 'com\.microsoft'"):
            library.save_bundle(tmp_path / 'strange', file, card)
        tensor = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), 'w')
        onnx.external_data_helper.set_external_data(tensor, '../secret')
        node = helper.make_node('Mul', ['x', 'w'], ['y'])
        graph = helper.make_graph([node], 'g', values[:1], values[1:], [tensor])
        file.write_bytes(helper.make_model(graph, opset_imports=opsets[:1]).SerializeToString())
        with pytest.raises(BundleError, match='weights in other files'):
            library.save_bundle(tmp_path / 'strange', file, card)

    def test_damage_and_other_precisions_are_refused(self, onnx_bundle, path, tmp_path):  # noqa: F811
        import shutil

        copy = shutil.copytree(onnx_bundle, tmp_path / 'copy')
        content = (copy / 'model.onnx').read_bytes()
        (copy / 'model.onnx').write_bytes(content[:-1] + b'\0')
        with pytest.raises(BundleError, match='SHA-256'):
            library.load_model(copy)
        (tmp_path / 'bad.onnx').write_bytes(b'no onnx')
        card = pixel_card('bad', architecture='onnx', architecture_kwargs={})
        with pytest.raises(BundleError, match=r'bad\.onnx'):
            library.save_bundle(tmp_path / 'bad', tmp_path / 'bad.onnx', card)
        with pytest.raises(UsageError, match='runs as it is'):
            library.classify(path, library.load_model(onnx_bundle), precision='bf16')
