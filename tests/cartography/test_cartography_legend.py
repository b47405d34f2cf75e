"""Legends, and the colours that they choose."""

import json
from itertools import combinations

import numpy as np
import pytest

from geores.bigearthnet.labels import CLC, LABELS
from geores.cartography.areas import Legend
from geores.cartography.colours import CLEAR, distance, lab, palette, palette_names, read_colours, rgb
from geores.datasets.resisc45 import CLASSES
from geores.errors import UsageError

# fmt: off
AID = (
    'airport', 'bare land', 'baseball field', 'beach', 'bridge', 'center', 'church', 'commercial',
    'dense residential', 'desert', 'farmland', 'forest', 'industrial', 'meadow', 'medium residential',
    'mountain', 'park', 'parking', 'playground', 'pond', 'port', 'railway station', 'resort', 'river',
    'school', 'sparse residential', 'square', 'stadium', 'storage tanks', 'viaduct',
)
# fmt: on
OFFICIAL = {'corine': 8}
"""Some official colours are close to each other."""


def nearest(colours):
    apart = distance(colours, colours)
    return apart[np.triu_indices(len(colours), 1)].min()


def test_lab_of_known_colours():
    red, white, grey = lab(['#ff0000', '#ffffff', '#777777'])
    np.testing.assert_allclose(red, [53.24, 80.09, 67.20], atol=0.05)
    np.testing.assert_allclose(white, [100, 0, 0], atol=0.05)
    np.testing.assert_allclose(grey[1:], 0, atol=0.05)


@pytest.mark.parametrize('name', palette_names())
def test_known_legends_keep_their_colours_and_can_be_told_apart(name):
    colours = palette(name)
    assert Legend.of(list(colours)).colours == tuple(colours.values())
    assert nearest(list(colours.values())) > OFFICIAL.get(name, 15)


def test_names_of_corine_as_bigearthnet_writes_them():
    assert len(CLC) == len(palette('corine')) == 44
    legend = Legend.of([name for name, _ in CLC.values()])
    assert legend.colours == tuple(palette('corine').values())
    assert Legend.of(LABELS).colours == tuple(palette('reben')[label] for label in LABELS)


def test_a_legend_is_found_by_most_of_its_labels_however_they_are_written():
    legend = Legend.of(['Water', 'TREES', 'snow and ice', 'Flooded-Vegetation', 'Tundra'])
    known = palette('dynamic_world')
    assert legend.colours[:4] == tuple(
        known[name] for name in ('water', 'trees', 'snow_and_ice', 'flooded_vegetation')
    )
    assert nearest(legend.colours) > CLEAR


@pytest.mark.parametrize('labels', [CLASSES, AID], ids=['resisc45', 'aid'])
def test_colours_of_meaning(labels):
    legend = Legend.of(labels)
    assert nearest(legend.colours) >= CLEAR
    colours = dict(zip(labels, rgb(legend.colours).astype(int), strict=True))
    for green in ('meadow', 'forest'):
        red, most, blue = colours[green]
        assert most > red
        assert most > blue
    red, green, blue = colours['river']
    assert blue > green > red
    red, green, blue = colours['dense_residential' if 'lake' in labels else 'dense residential']
    assert red > 1.5 * max(green, blue)


def test_labels_without_a_meaning_get_different_colours():
    legend = Legend.of([f'kind {n}' for n in range(300)])
    assert len(set(legend.colours)) == 300
    assert nearest(Legend.of([f'kind {n}' for n in range(20)]).colours) > 2 * CLEAR
    assert Legend.of(['x']).values == range(1, 2)


def test_values_and_types():
    legend = Legend.of(['water', 'land'])
    assert legend.names == {1: 'water', 2: 'land'}
    assert Legend.of([f'{n}' for n in range(254)]).dtype == 'uint8'
    assert Legend.of([f'{n}' for n in range(255)]).dtype == 'uint16'
    assert legend.rgb.shape == (2, 3)


def test_colours_of_a_card_win_and_those_of_the_user_win_over_them():
    legend = Legend.of(['water', 'land'], ['#000001', '#000002'])
    assert legend.colours == ('#000001', '#000002')
    assert legend.recoloured({'land': '#ABCDEF'}).colour_of == {'water': '#000001', 'land': '#abcdef'}


@pytest.mark.parametrize(
    ('labels', 'colours', 'said'),
    [
        ([], [], 'needs labels'),
        (['a', 'a'], None, 'only once'),
        (['a', 'b'], ['#000000'], '1 colours for 2 labels'),
        (['a'], ['red'], "'red' is no colour"),
    ],
)
def test_what_is_no_legend(labels, colours, said):
    with pytest.raises(UsageError, match=said):
        Legend.of(labels, colours)


def test_a_label_that_is_not_there_is_named():
    with pytest.raises(UsageError, match=r"my\.json: 'sea' is no label of this map; these are: water, land"):
        Legend.of(['water', 'land']).recoloured({'sea': '#000000'}, 'my.json')


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('c.json', json.dumps({'water': '#0000FF', 'land': '#00ff00'})),
        ('c.yaml', "water: '#0000ff'\nland: '#00ff00'\n"),
        ('c.csv', 'water,#0000ff\nland, #00ff00\n'),
        ('c.csv', '\ufefflabel,colour\nwater,#0000ff\n\nland,#00ff00\n'),
    ],
)
def test_files_of_colours(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding='utf-8')
    assert read_colours(path) == {'water': '#0000ff', 'land': '#00ff00'}


@pytest.mark.parametrize(
    ('name', 'text', 'said'),
    [
        ('c.json', '{', 'cannot be read'),
        ('c.yaml', ': [', 'cannot be read'),
        ('c.json', '[1]', 'has to map labels to colours'),
        ('c.yaml', '', 'has to map labels to colours'),
        ('c.json', '{}', 'holds no colours'),
        ('c.json', '{"water": "blue"}', "label 'water': 'blue' is no colour"),
        ('c.csv', 'water,#0000ff,1\n', 'is no line of a label and a colour'),
        ('c.txt', 'water', 'colours are read from .json, .yaml or .csv'),
    ],
)
def test_what_is_no_file_of_colours(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        read_colours(path)
    assert '\n' not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_of_colours_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match='cannot be read'):
        read_colours(tmp_path / 'none.json')


def test_palettes_do_not_share_a_name_for_two_colours():
    for one, other in combinations(palette_names(), 2):
        assert set(palette(one)) != set(palette(other))
