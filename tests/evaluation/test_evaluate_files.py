"""Files, tables and plots of an evaluation."""

# ruff: noqa: F811 - fixtures are arguments too

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import geores as package
from geores.errors import OutputError, WriteError
from geores.evaluation import figures

from ..evaluate_fixtures import (  # noqa: F401 - fixtures
    images,
    make_bundle,
    make_images,
    multi,
    single,
)
from ..fixtures import hold_files


def test_files(geores, multi, images, tmp_path):
    out = tmp_path / 'deep/out'
    answer = geores('evaluate', multi, images, '--out', out, '--json', '--bootstrap', 50)
    assert (answer.code, answer.err) == (0, '')
    (told,) = answer.records
    assert sorted(hold_files(out)) == sorted(path.rsplit('/', 1)[1] for path in told['outputs'].values())
    assert len(told['outputs']) == 9
    kept = json.loads((out / 'multi_metrics.json').read_text())
    assert kept['metrics'] == told['metrics']
    assert (kept['images'], kept['data'], kept['split']) == (12, [str(images)], 'all')
    assert kept['model_sha256'] == package.load_model(multi).sha256
    assert kept['bootstrap'] == {'replicates': 50, 'seed': 0}
    assert len(kept['threshold_curve']['water']['f1']) == 99
    per_class = pd.read_csv(out / 'multi_per_class.csv', index_col='label')
    assert per_class.loc['water', 'support'] == 4
    predictions = pd.read_parquet(out / 'multi_predictions.parquet')
    assert predictions['score_water'].between(0, 1).all()
    assert b'geores' in pq.read_schema(out / 'multi_predictions.parquet').metadata
    for plot in out.glob('*.png'):
        with Image.open(plot) as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture.convert('L')).std() > 5


def test_json_holds_no_nan(geores, single, tmp_path):
    root = make_images(tmp_path / 'set')
    for path in (root / 'field').iterdir():
        path.unlink()
    answer = geores('evaluate', single, root, '--json')
    assert answer.code == 0
    assert answer.records[0]['per_class']['field']['f1'] is None
    assert 'NaN' not in answer.out


def test_tables_for_people(geores, single, images):
    answer = geores('evaluate', single, images)
    assert answer.code == 0
    for text in ('single on 12 images', 'accuracy', '0.833', 'water', 'expected calibration error'):
        assert text in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80


@pytest.mark.parametrize('count', [1, 50])
def test_plots_of_few_and_of_many_labels(tmp_path, count):
    labels = tuple(f'label-{index:02}' for index in range(max(count, 3)))
    bundle = make_bundle(tmp_path / 'odd')
    found = package.evaluate(bundle, make_images(tmp_path / 'set'), bootstrap=0)
    generator = torch.Generator().manual_seed(0)
    found = replace(
        found,
        card=replace(found.card, labels=labels, architecture_kwargs={}),
        scores=torch.rand(12, len(labels), generator=generator),
        target=torch.arange(12) % count,
        known=np.ones(len(labels), bool),
    )
    names = ('confusion', 'reliability', 'threshold', 'precision_recall')
    found.plot({f'{name}_plot': tmp_path / f'{name}.png' for name in names})
    for name in names:
        assert (tmp_path / f'{name}.png').stat().st_size > 1000


def test_a_failed_plot_leaves_nothing(single, images, tmp_path, monkeypatch):
    found = package.evaluate(single, images, bootstrap=0)

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(figures, 'write_precision_recall', fail)
    with pytest.raises(WriteError, match='No space left'):
        found.save(tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_overwrite(single, images, tmp_path):
    found = package.evaluate(single, images, bootstrap=0, out=tmp_path / 'out')
    with pytest.raises(OutputError, match='--overwrite'):
        found.save(tmp_path / 'out')
    with pytest.raises(OutputError, match='--overwrite'):
        package.evaluate(single, images, out=tmp_path / 'out')
    assert set(found.save(tmp_path / 'out', overwrite=True).values()) == set((tmp_path / 'out').iterdir())
