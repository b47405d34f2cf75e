"""Labels of data and of models, and data that has trained a model."""

from dataclasses import replace

# ruff: noqa: F811 - fixtures are arguments too
import numpy as np
import pytest

import geores as package
from geores.errors import UsageError
from geores.evaluation.data import find_datasets, meanings
from geores.splits import stratified_split

from ..evaluate_fixtures import images, make_bundle, make_images, single  # noqa: F401 - fixtures


def test_labels_by_map_and_ignored(single, tmp_path):
    root = make_images(tmp_path / 'set')
    (root / 'water').rename(root / 'Lake')
    (root / 'field').rename(root / 'arable')
    with pytest.raises(UsageError, match=r'Lake, arable.*water, forest, field'):
        package.evaluate(single, root)
    found = package.evaluate(single, root, label_map={'Lake': 'water', 'arable': 'field'})
    assert (len(found), found.metrics['accuracy']) == (12, 1.0)
    found = package.evaluate(single, root, label_map={'Lake': 'water'}, ignore_unknown=True)
    assert len(found) == 8
    assert found.notes == (
        '4 images with labels that single does not know are left out: arable',
        'not measured, for the data has none: field',
    )
    assert np.isnan(found.per_class.loc['field', 'f1'])
    assert found.metrics['f1_macro'] == 1.0


def test_several_classes_may_mean_one_label(single, tmp_path):
    root = make_images(tmp_path / 'set')
    found = package.evaluate(single, root, label_map={'forest': 'field', 'moon': 'field'})
    assert found.notes == (
        'not measured, for the data has none: forest',
        'label map: the data has no moon',
    )
    assert found.confusion.loc['field'].to_dict() == {'water': 0, 'forest': 4, 'field': 4}


def test_multi_label_columns_that_are_unknown_or_lacking(tmp_path, images):
    bundle = make_bundle(tmp_path / 'bundles/other', 'multi-label', labels=('water', 'forest', 'ice'))
    with pytest.raises(UsageError, match='field'):
        package.evaluate(bundle, images)
    found = package.evaluate(bundle, images, ignore_unknown=True)
    assert (len(found), found.labels) == (12, ('water', 'forest'))
    assert found.scores.shape == (12, 3)
    assert 'ice' not in found.per_class.index
    table = images / 'multilabels.csv'
    table.write_text(table.read_text().replace('field,forest,water', 'pond,forest,water'))
    joined = package.evaluate(bundle, images, label_map={'pond': 'water'})
    assert joined.per_class.loc['water', 'support'] == 8


def test_names_are_compared_as_people_write_them():
    labels = ('SeaLake', 'Forest', 'forest')
    assert meanings(['sea-lake', 'Sea Lake', 'Forest', 'FOREST', 'moon'], labels, {}) == (
        {'sea-lake': 'SeaLake', 'Sea Lake': 'SeaLake', 'Forest': 'Forest'},
        ['FOREST', 'moon'],
    )
    with pytest.raises(UsageError, match=r"the model knows no label 'Forrest'.*'Forest'"):
        meanings(['moon'], labels, {'moon': 'Forrest'})


# --- data that the model was trained on


def test_training_data_is_recognised_by_name(single):
    card = package.load_model(single).card
    card = replace(
        card,
        training_data=[
            {'name': 'UC Merced Land Use', 'licence': 'USGS', 'also': ['UC Merced']},
            {'name': 'AID', 'licence': 'academic use'},
            {'name': 's2-l2a', 'licence': 'free use', 'note': '802 patches'},
        ],
        metrics={'my.set': {'split': '5 images'}, 'all': {'split': '5 images'}},
    )
    names = [
        'ucmerced',
        'UCMerced_LandUse',
        'aid',
        's2_l2a',
        'my-set',
        'images',
        'all',
        'merc',
        'land',
        'patches',
    ]
    assert card.trained_on(names) == ['UCMerced_LandUse', 'aid', 'my-set', 's2_l2a', 'ucmerced']


def test_the_split_of_the_card(geores, tmp_path):
    root = make_images(tmp_path / 'set')
    (dataset,) = find_datasets(package.load_model(make_bundle(tmp_path / 'a')).card, root)
    split = stratified_split(dataset.ids, dataset.strata, 0.25, 3)
    bundle = make_bundle(tmp_path / 'b', split_id=split.id, split=split.method)
    everything = package.evaluate(bundle, root)
    assert everything.warnings[0].startswith('9 of 12 images have trained b')
    kept = package.evaluate(bundle, root, split='val')
    assert kept.ids == tuple(dataset.ids[index] for index in split.val)
    assert kept.warnings == ()
    train = package.evaluate(bundle, root, split='train')
    assert set(train.ids) | set(kept.ids) == set(dataset.ids)
    answer = geores('evaluate', bundle, root)
    assert 'geores: warning: 9 of 12 images' in answer.err
    with pytest.raises(UsageError, match=r'split of b \(stratified.*cannot be made again'):
        package.evaluate(bundle, [root, make_images(tmp_path / 'more')], split='val')
    with pytest.raises(UsageError, match="'all', 'train' or 'val'"):
        package.evaluate(bundle, root, split='test')
