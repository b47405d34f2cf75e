"""Pictures of maps, by their pixels."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geores.cartography.areas import Legend, say_area, say_length, say_share
from geores.cartography.picture import (
    draw_classes,
    draw_labels,
    draw_values,
    pack_rows,
    write_png,
)
from geores.cartography.sheet import Frame, stretched_picture

from ..cartography_fixtures import GRIDS, LEGEND, class_array, grid


def pixels(path):
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB'))


def share_of(image, colour):
    return (abs(image.astype(int) - colour).max(axis=-1) <= 2).mean()


@pytest.mark.parametrize('shape', [(300, 280), (120, 600), (600, 100), (4, 900), (2, 2)])
def test_classes_in_the_legends_colours(tmp_path, shape):
    classes = class_array(*shape)
    frame = Frame.of(grid(shape), 10.0)
    path = tmp_path / 'map.png'
    picture = np.full((*shape, 3), 20, np.uint8)
    draw_classes(picture, classes, LEGEND, frame, title='a', name='b', note='A note. ' * 40).write(path)
    image = pixels(path)
    if min(shape) > 50:
        for value, colour in zip(LEGEND.values, LEGEND.rgb, strict=True):
            drawn = share_of(image, colour) / share_of(image, (20, 20, 20))
            assert drawn == pytest.approx((classes == value).mean(), abs=0.03)


def test_pixels_are_real(tmp_path):
    """A line of one pixel is seen, as it was not in cells of 32."""
    classes = np.full((400, 400), 3, 'uint8')
    classes[:, 200] = 1
    draw_classes(np.zeros((400, 400, 3), 'uint8'), classes, LEGEND, Frame(400, 400, 10.0)).write(
        tmp_path / 'map.png'
    )
    assert 0 < share_of(pixels(tmp_path / 'map.png'), LEGEND.rgb[0]) < 0.01


def test_a_small_map_for_each_label_that_occurs(tmp_path):
    present = np.ones((17, 12, 12), 'uint8')
    present[:14, 2:4] = 2
    present[:, :2] = 0
    legend = Legend.of([f'label {n}' for n in range(17)])
    shares = dict.fromkeys(legend.labels[:14], 0.2)
    frame = Frame.of(grid((120, 120)), 10.0)
    picture = np.zeros((60, 60, 3), 'uint8')
    draw_labels(picture, present, legend, frame, shares=shares).write(tmp_path / 'map.png')
    many = pixels(tmp_path / 'map.png').shape
    draw_labels(picture, present[:1], Legend.of(['a']), frame, shares={'a': 1}).write(tmp_path / 'one.png')
    assert pixels(tmp_path / 'one.png').shape[0] < many[0]
    draw_labels(picture, np.ones((1, 3, 3), 'uint8'), Legend.of(['a']), frame, shares={'a': 0}).write(
        tmp_path / 'none.png'
    )
    assert pixels(tmp_path / 'none.png').size


def test_values_with_a_scale(tmp_path):
    values = np.linspace(0, 1, 400).reshape(20, 20)
    values[0, 0] = np.nan
    frame = Frame.of(grid((200, 200)), 10.0)
    draw_values(np.zeros((200, 200, 3), 'uint8'), values, frame, quantity='built-up share').write(
        tmp_path / 'map.png'
    )
    assert share_of(pixels(tmp_path / 'map.png'), (253, 231, 37)) > 0  # the top of viridis


def test_forty_labels(tmp_path):
    labels = [f'a label of many words, number {n}' for n in range(40)]
    classes = np.arange(1, 41, dtype='uint8').repeat(10).reshape(20, 20)
    draw_classes(
        np.zeros((20, 20, 3), 'uint8'),
        classes,
        Legend.of(labels),
        Frame(20, 20),
        areas=dict.fromkeys(labels, 10.0),
    ).write(tmp_path / 'map.png')
    assert pixels(tmp_path / 'map.png').size


@pytest.mark.parametrize(
    ('kind', 'north', 'caption'),
    [
        ('utm', 0, 'EPSG:32633 (WGS 84 / UTM zone 33N) · 10 m a pixel'),
        ('turned', 20.556, 'EPSG:32633 (WGS 84 / UTM zone 33N) · 10 m a pixel'),
        ('geographic', 0, 'EPSG:4326 (WGS 84) · 10 m a pixel'),
        ('nowhere', None, 'no CRS'),
    ],
)
def test_frames(kind, north, caption):
    frame = Frame.of(grid((30, 40), kind), None if kind == 'nowhere' else 10.0)
    assert frame.caption == caption
    assert (frame.height, frame.width) == (30, 40)
    assert frame.north == (None if north is None else pytest.approx(north, abs=1e-3))


def test_a_picture_is_white_where_nothing_is_known():
    look = np.random.default_rng(0).random((3, 20, 20)).astype('float32')
    look[:, :5] = np.nan
    picture = stretched_picture(look)
    assert (picture[:5] == 255).all()
    assert stretched_picture(np.full((1, 4, 4), np.nan, 'float32')).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ('area', 'said'),
    [(0, '0 m²'), (90, '90 m²'), (999, '999 m²'), (5_120, '0.51 ha'), (51_200, '5.12 ha'),
     (999_999, '100 ha'), (1e6, '1 km²'), (1.234e7, '12.3 km²'), (1.2056e10, '12,056 km²')],
)  # fmt: skip
def test_areas_in_words(area, said):
    assert say_area(area) == said


def test_numbers_in_words():
    assert say_area(12_000, 'pixel') == '12,000 px'
    assert [say_share(share) for share in (0, 0.0001, 0.0721, 1)] == ['0 %', '< 0.1 %', '7.2 %', '100.0 %']
    assert [say_length(length) for length in (20, 500, 1000, 20_000)] == ['20 m', '500 m', '1 km', '20 km']


def test_grids_are_used():
    assert set(GRIDS) == {'utm', 'turned', 'geographic', 'nowhere'}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_rows_that_were_packed_apart_make_one_png(tmp_path_factory, heights, width, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, 256, (rows, width, 3), dtype=np.uint8) for rows in heights]
    parts[0][:] = parts[0][0, 0]  # a plain one, which compresses
    path = tmp_path_factory.mktemp('png') / 'rows.png'
    write_png(path, [pack_rows(part) for part in parts], 'geores')
    with Image.open(path) as picture:
        picture.load()
        assert picture.text == {'Software': 'geores'}
        assert (np.asarray(picture) == np.concatenate(parts)).all()
    stream = path.read_bytes().split(b'IDAT')[1][:-16]  # without checksum and last chunk
    assert len(zlib.decompress(stream)) == sum(heights) * (3 * width + 1)
