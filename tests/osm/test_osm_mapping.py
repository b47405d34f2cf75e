"""The mapping from tags to categories."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geores.errors import UsageError
from geores.osm import load_mapping

MAPPING = load_mapping()


@pytest.mark.parametrize(
    ('kind', 'tags', 'wanted'),
    [
        ('area', {'building': 'yes'}, ('building',)),
        ('area', {'building': 'house'}, ('building', 'residential building')),
        ('area', {'building': 'warehouse'}, ('building', 'commercial building')),
        ('area', {'building': 'no'}, ()),
        ('area', {'building': 'roof'}, ()),
        ('line', {'highway': 'primary'}, ('road',)),
        ('line', {'highway': 'footway'}, ()),
        ('area', {'highway': 'residential'}, ()),
        ('area', {'landuse': 'residential'}, ('residential area',)),
        ('area', {'natural': 'water'}, ('water area',)),
        ('area', {'natural': 'wood', 'leisure': 'park'}, ('forest', 'park')),
        ('area', {}, ()),
    ],
)
def test_tags_become_categories(kind, tags, wanted):
    assert MAPPING.categories(kind, tags) == wanted


def test_geometry_tells_a_residential_road_from_a_residential_area():
    assert MAPPING.categories('line', {}, 'residential', 5122) == ('road',)
    assert MAPPING.categories('area', {}, 'residential', 7203) == ('residential area',)


@given(st.dictionaries(st.sampled_from(MAPPING.keys), st.text()), st.sampled_from(['area', 'line']))
def test_any_tags_are_mapped_without_an_error(tags, kind):
    assert set(MAPPING.categories(kind, tags)) <= set(MAPPING.layers)


def test_a_mapping_can_be_replaced(tmp_path):
    path = tmp_path / 'own.yaml'
    path.write_text('rules: [{category: tree row, layer: green, kind: line, tags: {natural: [tree_row]}}]')
    own = load_mapping(path)
    assert own.categories('line', {'natural': 'tree_row'}) == ('tree row',)
    assert own.digest != MAPPING.digest


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('- a\n b: [', 'not YAML'),
        ('a: 1', "no list 'rules'"),
        ('rules: []', "no list 'rules'"),
        ('rules: [1]', 'rule 1 is no table'),
        ('rules: [{category: tree, layer: a, kind: dot}]', "'area' or 'line'"),
        ('rules: [{category: the tree, layer: a, kind: area}]', 'cannot be a category'),
        ('rules: [{category: tree, kind: area}]', 'layer'),
        ('rules: [{category: tree, layer: a, kind: area, tag: {}}]', "'tag'"),
        ('rules: [{category: tree, layer: a, kind: area, tags: {building: [no]}}]', 'quote yes and no'),
        ('rules: [{category: tree, layer: a, kind: area, code: [x]}]', 'whole numbers'),
        (
            'rules: [{category: t, layer: a, kind: area}, {category: t, layer: a, kind: area}]',
            'twice',
        ),
    ],
)
def test_a_bad_mapping_is_refused_with_the_rule(tmp_path, text, message):
    path = tmp_path / 'bad.yaml'
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_mapping(path)


def test_a_missing_mapping_is_refused(tmp_path):
    with pytest.raises(UsageError, match='cannot be read'):
        load_mapping(tmp_path / 'none.yaml')
