"""`geores ask` from scene to answer, with a bundle whose answers are right."""

# ruff: noqa: F811 - fixtures are arguments too
import json

import geopandas as gpd
import numpy as np
import pytest
from PIL import Image

import geores as library
from geores import load_model
from geores.asking import session
from geores.asking.encoding import choose_vqa
from geores.errors import BandError, JournalError, ModelNotFoundError, OutputError, UsageError
from geores.inference import prepared
from geores.scenes import open_scene

from ..ask_fixtures import (  # noqa: F401 - fixtures
    CELL_AREA,
    COLOURS,
    HR,
    TILE,
    asked,
    cells,
    oracle,
    oracle_bundle,
    painted,
    scene,
)
from ..fixtures import hold_files, tiny_bundle, write_scene

pytestmark = pytest.mark.usefixtures('one_thread')

QUESTIONS = [
    'Is there a water area?',
    'How many forests are there?',
    'Are there more forests than buildings?',
    'Is it a rural or an urban area?',
    'any rivers here?',
    'Is there an airport?',
]


def number(cells, name):
    return int((cells == name).sum())


def test_answers_are_right(asked, cells):
    found = asked(*QUESTIONS)
    assert [one['question'] for one in found] == QUESTIONS
    there, many, more, where, river, airport = found
    assert (there['answer'], there['probability'], there['question_type']) == ('yes', 1, 'presence')
    assert many['answer'] == str(number(cells, 'forest'))
    assert many['interval'][0] <= many['value'] <= many['interval'][1]
    assert many['unit'] == 'objects'
    assert more['answer'] == ('yes' if number(cells, 'forest') > number(cells, 'building') else 'no')
    assert where['answer'] == 'urban'
    assert river['understood_as'] == 'Is there a water area?'
    assert river['answer'] == 'yes'
    assert airport['answer'] is None
    assert airport['text'].startswith("I don't know")
    for one in found:
        assert {'scene', 'model', 'probability', 'tiles', 'outputs'} <= one.keys()
        assert one['outputs'] == {}
        assert one['tiles'] == (0 if one['answer'] is None else 12)


def test_evidence_is_where_the_objects_are(asked, oracle, cells, tmp_path):
    (found,) = asked('Is there a water area?', '--out', tmp_path)
    table = gpd.read_parquet(found['outputs']['evidence'])
    truth = [(cells[row : row + 4, col : col + 4] == 'water area').any()
             for row in range(0, 12, 4) for col in range(0, 16, 4)]  # fmt: skip
    assert table['evidence'].tolist() == truth
    assert table['answer'].tolist() == ['yes' if one else 'no' for one in truth]
    assert found['evidence_tiles'] == sum(truth)
    assert table.crs.to_epsg() == 32633
    assert table.total_bounds.tolist() == [300_000, 5_800_000 - 1920, 300_000 + 2560, 5_800_000]
    assert table.geometry.area.unique().tolist() == [(TILE * 10) ** 2]
    with Image.open(found['outputs']['map']) as picture:
        assert min(picture.size) > 300
    run = json.loads((tmp_path / 'answers.json').read_text())
    record = run['scenes']['town']['Is there a water area?']
    assert record['answer'] == 'yes'
    assert record['provenance']['model_sha256'] == load_model(oracle).sha256
    assert hold_files(tmp_path) == {
        'answers.json',
        'town_is-there-a-water-area_evidence.parquet',
        'town_is-there-a-water-area_map.png',
    }


def test_answers_of_a_dataset_are_not_lost(asked, tmp_path):
    """RSVQA has a file of that name."""
    (tmp_path / 'answers.json').write_text('{"answers": []}')
    with pytest.raises(AssertionError, match='no record of geores'):
        asked('Is there a forest?', '--out', tmp_path)
    assert hold_files(tmp_path) == {'answers.json'}


def test_what_is_assumed_of_the_scene_is_told_with_every_answer(asked, geores, scene, oracle, tmp_path):
    answers = asked('Is there a forest?', 'How many forests are there?', '--tile', 32, '--out', tmp_path)
    assert all(one['scene_notes'] == answers[0]['scene_notes'] for one in answers)
    run = json.loads((tmp_path / 'answers.json').read_text())['scenes']['town']
    assert all(one['scene_notes'] == answers[0]['scene_notes'] for one in run.values())


def test_what_a_network_has_not_seen_is_told(scene, tmp_path):
    limits = {
        'figure': 'accuracy',
        'worst': {'count': 0.7},
        'measured_on': 'made up',
        'unseen': ['winter', 'snow'],
    }
    model = load_model(oracle_bundle(tmp_path / 'some', limits=limits))
    answer = library.ask(scene, 'Is there a forest?', model)
    assert answer.scene_notes[-1] == f'{model.name} has not seen: winter; snow'


def test_top_k_limits_the_evidence(asked, tmp_path):
    (found,) = asked('Is there a forest?', '--top-k', 2, '--out', tmp_path)
    assert found['evidence_tiles'] == 2
    assert gpd.read_parquet(found['outputs']['evidence'])['evidence'].sum() == 2


def test_areas_of_a_model_that_answers_them(asked, cells, tmp_path):
    bundle = oracle_bundle(tmp_path / 'fine', answers=HR)
    (found,) = asked('What is the area covered by forests?', model=bundle)
    assert found['value'] == number(cells, 'forest') * CELL_AREA
    assert found['interval'] == [found['value']] * 2
    assert (found['unit'], found['source']) == ('m2', 'vqa')


def test_areas_without_a_measure(asked):
    (found,) = asked('What is the area covered by water?')
    assert found['answer'] is None
    assert found['text'].startswith('cannot measure')
    assert found['question_type'] == 'area'


def test_one_tile_answers_for_itself(asked, cells, tmp_path):
    place = write_scene(tmp_path / 'tile.tif', values=painted(cells[:4, :4]))
    less, many = asked(
        'Are there less forests than buildings?',
        'How many buildings are there?',
        '--out',
        tmp_path,
        place=place,
    )
    part = cells[:4, :4]
    assert less['answer'] == ('yes' if number(part, 'forest') < number(part, 'building') else 'no')
    assert many['interval'] == [number(part, 'building')] * 2


def test_a_tile_is_looked_at_once_for_all_questions(oracle, scene):
    model = load_model(oracle)
    seen = []
    model.network.encoder.register_forward_hook(lambda *args: seen.append(len(args[2])))
    answers = library.ask(scene, QUESTIONS * 5, model)
    assert sum(seen) == 12
    assert len(answers) == 30
    alone = library.ask(scene, QUESTIONS[1], model)
    assert alone == answers[1]
    assert alone.evidence['evidence'].sum() == alone.to_dict()['evidence_tiles']


def test_the_order_and_company_of_questions_changes_nothing(oracle, scene):
    model = load_model(oracle)
    together = library.ask(scene, QUESTIONS, model)
    backwards = library.ask(scene, QUESTIONS[::-1], model)
    assert [one.to_dict() for one in together] == [one.to_dict() for one in backwards[::-1]]


def test_only_the_box_is_asked(asked, cells):
    box = (300_000, 5_800_000 - 640, 300_000 + 640, 5_800_000)
    (found,) = asked('How many forests are there?', '--bbox', *box)
    assert found['value'] == number(cells[:4, :4], 'forest')
    assert found['tiles'] == 1


def test_what_was_not_seen_is_said(asked, tmp_path):
    values = painted(np.full((4, 12), 'forest'))
    values[:, :, 64:] = 0
    place = write_scene(tmp_path / 'half.tif', values=values, nodata=0)
    (found,) = asked('Is there a forest?', place=place)
    assert (found['answer'], found['tiles']) == ('yes', 1)
    assert any('67%' in note for note in found['notes'])
    place = write_scene(tmp_path / 'none.tif', values=np.zeros_like(values), nodata=0)
    (found,) = asked('Is there a forest?', place=place)
    assert found['answer'] is None
    assert 'valid' in found['text']


def test_a_scene_without_crs(asked, cells, tmp_path):
    place = write_scene(tmp_path / 'bare.tif', values=painted(cells), crs=None)
    (found,) = asked('How many forests are there?', '--out', tmp_path / 'out', place=place)
    assert found['value'] == number(cells, 'forest')
    assert gpd.read_parquet(found['outputs']['evidence']).crs is None


def test_sixteen_bit_bands_are_stretched_as_for_classification(oracle, cells, tmp_path):
    values = painted(cells)[[2, 1, 0]].astype(np.uint16) * 10
    place = write_scene(tmp_path / 's2.tif', bands=('B02', 'B03', 'B04'), values=values)
    found = library.ask(place, 'How many forests are there?', oracle)
    assert found.value == number(cells, 'forest')


def test_work_that_was_cut_short_goes_on(oracle, scene, tmp_path, monkeypatch):
    model, out = load_model(oracle), tmp_path / 'out'
    whole = library.ask(scene, QUESTIONS, model)
    seen = []
    model.network.encoder.register_forward_hook(lambda *args: seen.append(len(args[2])))
    monkeypatch.setattr(prepared, 'plan_chunks', lambda *args, **kwargs: (1, 4))

    def stop(tiles, total):
        if tiles:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.ask(scene, QUESTIONS, model, out=out, progress=stop, workers=1)
    assert [path.name for path in out.iterdir()] == ['.town.features']
    with monkeypatch.context() as patched:  # stopped again, when all tiles were seen
        patched.setattr(session, 'predict_tiles', lambda *args: stop(1, 1))
        with pytest.raises(KeyboardInterrupt):
            library.ask(scene, QUESTIONS, model, out=out, workers=1)
    seen.clear()
    again = library.ask(scene, QUESTIONS, model, out=out)
    assert seen == []
    assert [one.answer for one in again] == [one.answer for one in whole]
    assert not any(path.name.startswith('.') for path in out.iterdir())


def test_work_of_another_run_is_not_taken_up(oracle, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(session, 'predict_tiles', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        library.ask(scene, 'Is there a forest?', oracle, out=tmp_path)
    with pytest.raises(JournalError, match='tile'):
        library.ask(scene, 'Is there a forest?', oracle, out=tmp_path, tile=128)


def test_a_classification_lends_its_part_of_the_scene(oracle, bundle, scene, cells):
    box = (300_000, 5_800_000 - 640, 300_000 + 640, 5_800_000)
    classified = library.classify(scene, bundle, bbox=box)
    found = library.ask(classified, 'How many forests are there?', oracle)
    assert found.value == number(cells[:4, :4], 'forest')


def test_a_classification_measures_areas(oracle, scene, tmp_path):
    labels = ('Forest', 'SeaLake', 'River', 'Pasture')
    cover = tiny_bundle(tmp_path / 'cover', labels=labels)
    classified = library.classify(scene, cover)
    found = library.ask(classified, ['What is the area covered by water areas?', 'how much forest'], oracle)
    tiles = classified.tiles
    for one, shares in zip(found, ({'SeaLake': 1.0, 'River': 0.25}, {'Forest': 1.0}), strict=True):
        part = sum(tiles[name] * share for name, share in shares.items())
        assert one.value == pytest.approx((tiles['area'] * part).sum(), abs=0.01 * tiles['area'].sum())
        assert one.interval[0] <= one.value <= one.interval[1]
        assert one.source == 'cover'
        assert 'cover' in one.text
        assert one.probability is None
    small = library.ask(classified, 'What is the area covered by small forests?', oracle)
    assert small.answer is None
    assert small.text.startswith('cannot measure')


def test_results_are_not_replaced_unless_asked(geores, oracle, scene, tmp_path):
    args = ('ask', scene, 'any rivers?', '--model', oracle, '--out', tmp_path / 'out', '--json')
    assert geores(*args).code == 0
    before = hold_files(tmp_path / 'out')
    again = geores(*args, '--top-k', '1')
    assert again.code == 2
    assert '--overwrite' in again.err
    assert hold_files(tmp_path / 'out') == before
    assert geores(*args, '--overwrite').code == 0


def test_the_same_questions_again(geores, oracle, scene, tmp_path, monkeypatch):
    """Answered before: nothing is looked at, and no file is touched."""
    asked = ('any rivers?', 'How many forests are there?')
    args = ('ask', scene, '--model', oracle, '--out', tmp_path / 'out')
    first = geores(*args, *asked, '--json')
    files = {name: (tmp_path / 'out' / name).read_bytes() for name in hold_files(tmp_path / 'out')}
    with monkeypatch.context() as patched:
        patched.setattr('geores.asking.sources.prepare_encoding', None)
        again = geores(*args, *asked, '--json')
        assert again.code == 0, again
        assert [record.pop('done_before') for record in again.records] == [True, True]
        told = [{key: value for key, value in one.items() if key != 'done_before'} for one in again.records]
        assert told == first.records
        plain = geores(*args, asked[0])
        assert (plain.code, 'done before' in plain.out, 'understood as: ' in plain.out) == (0, True, True)
    assert {name: (tmp_path / 'out' / name).read_bytes() for name in hold_files(tmp_path / 'out')} == files
    assert geores(*args, *asked, '--min-valid', '0.1').code == 2
    assert geores(*args, *asked, 'Is there a forest?').code == 2


@pytest.mark.parametrize(
    ('args', 'why'),
    [
        ([''], 'empty'),
        (['word ' * 10_000], '1,000'),
        (['Is there a forest?', ' ? '], 'empty'),
        (['Is there a forest?', '--top-k', '0'], 'top-k'),
        (['Is there a forest?', '--tile', '3'], 'tile'),
        (['Is there a forest?', '--questions', 'x.txt'], 'use one'),
        (['--questions', 'nowhere.txt'], 'nowhere.txt'),
        (['--questions', '.'], 'cannot be read'),
        (['Is there a forest?', '--model', 'nothing'], 'nothing'),
        (['Is there a forest?', '--model', 'sentinel2'], 'answers no questions'),
    ],
)
def test_bad_input_is_said_and_leaves_nothing(geores, oracle, scene, tmp_path, args, why):
    model = [] if '--model' in args else ['--model', oracle]
    answer = geores('ask', scene, *args, *model, '--out', tmp_path / 'out')
    assert answer.code == 2, answer
    assert why in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_bands_that_are_missing(geores, oracle, tmp_path):
    place = write_scene(tmp_path / 'grey.tif', bands=('B08',))
    answer = geores('ask', place, 'Is there a forest?', '--model', oracle)
    assert answer.code == 2
    assert 'red, green, blue' in answer.err


def test_the_model_follows_from_the_pixel_size(oracle, scene, tmp_path):
    coarse = load_model(oracle).card
    fine = load_model(oracle_bundle(tmp_path / 'fine', answers=HR, gsd=(0.15, 0.3))).card
    label = load_model(tiny_bundle(tmp_path / 'label')).card
    place = open_scene(scene)
    card, why = choose_vqa(place, [label, fine, coarse])
    assert card == coarse
    assert '10 m' in why
    with pytest.raises(ModelNotFoundError, match=r'fine takes 0\.15 to 0\.3 m'):
        choose_vqa(place, [label, fine])
    with pytest.raises(ModelNotFoundError, match='no VQA model'):
        choose_vqa(place, [label])
    grey = open_scene(write_scene(tmp_path / 'grey.tif', bands=('B08',)))
    with pytest.raises(BandError, match='oracle lacks red, green, blue'):
        choose_vqa(grey, [coarse])


def test_python_refuses_what_the_command_does(oracle, scene, tmp_path):
    for question in ([], '', ['Is there a forest?', '']):
        with pytest.raises(UsageError):
            library.ask(scene, question, oracle)
    with pytest.raises(UsageError, match='threshold'):
        library.ask(scene, 'Is there a forest?', oracle, threshold=0.5)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError):
        library.ask(scene, 'Is there a forest?', oracle, out=tmp_path / 'file')


def test_tiles_of_another_size(oracle, tmp_path):
    place = write_scene(tmp_path / 'wood.tif', values=painted(np.full((12, 16), 'forest')))
    found = library.ask(place, 'Is there a forest?', oracle, tile=128)
    assert (found.answer, found.tiles) == ('yes', 4)
