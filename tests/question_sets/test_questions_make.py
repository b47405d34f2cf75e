"""`geores questions make`: datasets from scenes and OpenStreetMap."""

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import rasterio
from shapely.geometry import Polygon
from typer.testing import CliRunner

from geores.cli import app
from geores.errors import GeoresError, JournalError, OutputError, ReadError, UsageError
from geores.io.process_map import ProcessMap
from geores.question_sets.make import make_questions
from geores.question_sets.options import MakeOptions
from geores.questions.facts import QuestionBalance, answer_class, parse_balance
from geores.questions.grammar import parse

from ..osm_fixtures import UTM, contents, helsinki, lines, objects, stand_alone, write_scene

SMALL = MakeOptions(tile=64, questions=12, block_size=640, buffer=0)


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('inputs')
    scene = write_scene(folder / 'scene.tif')
    objects().to_file(folder / 'osm.gpkg')
    return str(scene), [str(folder / 'osm.gpkg')]


@pytest.fixture(scope='module')
def made(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp('made') / 'dataset'
    make_questions([inputs[0]], inputs[1], out, SMALL)
    return out


def make(inputs, out, **options):
    plain = {'tile': 64, 'questions': 12, 'block_size': 640.0, 'buffer': 0.0} | options
    return make_questions([inputs[0]], inputs[1], out, MakeOptions(**plain))


def test_a_dataset_reads_back_in_the_official_layout(made):
    asked = stand_alone(made)
    assert len(asked) == 16 * 12
    assert {part for part, *_ in asked} == {'train', 'val', 'test'}
    for name in {name for _, name, *_ in asked}:
        with rasterio.open(name) as image:
            assert (image.count, image.shape, image.dtypes[0]) == (3, (64, 64), 'uint8')
            assert image.crs == UTM


def test_images_are_the_pixels_of_their_place(made, inputs):
    manifest = json.loads((made / 'manifest.json').read_text())
    with rasterio.open(inputs[0]) as scene:
        whole = scene.read()
    for tile in manifest['tiles'][::5]:
        row, col = tile['row'] * 64, tile['col'] * 64
        with rasterio.open(made / 'images' / f'{tile["id"]}.tif') as image:
            assert (image.read() == whole[:, row : row + 64, col : col + 64]).all()
            assert list(image.bounds) == tile['bounds']


def test_forms_say_what_the_words_say_and_agree_with_the_official_files(made):
    by_line = lines(made)
    for line in by_line:
        assert parse(line['question']).to_dict() == line['form']
    asked = sorted((question, answer) for _, _, _, question, answer in stand_alone(made))
    assert asked == sorted((line['question'], line['answer']) for line in by_line)


def test_no_question_stands_twice_and_answers_are_balanced_in_each_tile(made):
    by_tile = {}
    for line in lines(made):
        by_tile.setdefault(line['img_id'], []).append(line)
    for asked in by_tile.values():
        assert len({parse(line['question']).key for line in asked}) == len(asked)
        for kind in ('presence', 'comp'):
            counts = Counter(line['answer'] for line in asked if line['type'] == kind)
            assert abs(counts['yes'] - counts['no']) <= 2


def test_the_manifest_names_inputs_by_checksum_and_says_whose_data_it_is(made, inputs):
    import hashlib

    manifest = json.loads((made / 'manifest.json').read_text())
    with open(inputs[1][0], 'rb') as file:
        assert manifest['inputs']['osm'][0]['sha256'] == hashlib.sha256(file.read()).hexdigest()
    assert manifest['seed'] == 0
    assert 'Open Database Licence' in (made / 'ATTRIBUTION.txt').read_text()
    assert {name for line in lines(made) for part in line['objects'] for name in part} <= {
        f'osm/{1_000 + number}' for number in range(150)
    }


def test_same_inputs_and_seed_same_files_and_another_seed_others(made, inputs, tmp_path):
    make(inputs, tmp_path / 'again')
    assert contents(tmp_path / 'again') == contents(made)
    make(inputs, tmp_path / 'other', seed=1)
    assert contents(tmp_path / 'other')['questions.jsonl'] != contents(made)['questions.jsonl']


def test_another_process_and_hash_seed_do_not_matter(made, inputs, tmp_path):
    command = [
        sys.executable, '-c', 'from geores.cli import main; main()', 'questions', 'make', inputs[0],
        '--osm', *inputs[1], '--out', str(tmp_path / 'out'), '--tile', '64', '--questions', '12',
        '--block-size', '640', '--buffer', '0', '--json',
    ]  # fmt: skip
    env = os.environ | {'PYTHONHASHSEED': '77'}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(done.stdout)['questions'] == Counter(line['type'] for line in lines(made))
    assert contents(tmp_path / 'out') == contents(made)


def test_several_processes_make_the_same_files(made, inputs, tmp_path, monkeypatch):
    # Work is given to the other process before it has started, or this one would do all of so little.
    monkeypatch.setattr('geores.question_sets.make.FEW', 0)
    monkeypatch.setattr(ProcessMap, '_room', lambda self, waiting: len(waiting) < 2)
    make_questions([inputs[0]], inputs[1], tmp_path / 'out', SMALL, jobs=2)
    assert contents(tmp_path / 'out') == contents(made)


@pytest.mark.parametrize('crs', ['EPSG:4326', 'EPSG:3857', 'EPSG:2154'])
def test_the_crs_of_the_objects_does_not_matter(made, inputs, tmp_path, crs):
    objects().to_crs(crs).to_file(tmp_path / 'osm.gpkg')
    make((inputs[0], [str(tmp_path / 'osm.gpkg')]), tmp_path / 'out')
    assert contents(tmp_path / 'out')['questions.jsonl'] == contents(made)['questions.jsonl']


def test_a_crs_that_moves_objects_by_parts_of_a_millimetre_changes_areas_by_a_square_metre(
    made, inputs, tmp_path
):
    """PROJ comes back from EPSG:3035 0.3 mm beside where it started."""
    objects().to_crs('EPSG:3035').to_file(tmp_path / 'osm.gpkg')
    make((inputs[0], [str(tmp_path / 'osm.gpkg')]), tmp_path / 'out')
    for line, other in zip(lines(made), lines(tmp_path / 'out'), strict=True):
        area, moved = (line.pop('answer'), other.pop('answer'))
        assert line == other
        assert area == moved or abs(int(area[:-2]) - int(moved[:-2])) <= 1


def test_a_stopped_run_continues_and_ends_with_the_same_files(made, inputs, tmp_path):
    class StoppedError(Exception):
        pass

    finished = []

    def stop(tiles, total):
        finished.append(tiles)
        if sum(finished) >= 7:
            raise StoppedError

    out = tmp_path / 'out'
    with pytest.raises(StoppedError):
        make_questions([inputs[0]], inputs[1], out, SMALL, progress=stop)
    assert not out.exists()
    # As one that is killed while it writes a tile leaves it: half a file, and no record of it.
    tile = next((tmp_path / '.out.partial' / 'tiles').glob('*.tif'))
    tile.write_bytes(tile.read_bytes()[:100])
    tile.with_suffix('.json').unlink()
    again = []
    make_questions([inputs[0]], inputs[1], out, SMALL, progress=lambda tiles, total: again.append(tiles))
    assert again[0] >= 6
    assert contents(out) == contents(made)
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_unfinished_work_of_other_options_is_refused(inputs, tmp_path):
    def stop(tiles, total):
        if tiles:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_questions([inputs[0]], inputs[1], tmp_path / 'out', SMALL, progress=stop)
    with pytest.raises(JournalError, match='options'):
        make(inputs, tmp_path / 'out', seed=5)


def test_tiles_with_nodata_or_under_a_mask_are_left_out(inputs, tmp_path):
    scene = write_scene(tmp_path / 'holes.tif', nodata=0, blank=[(0, 0, 3)])
    cloud = np.zeros((1, 256, 256), 'uint8')
    cloud[:, 200, 200] = 1
    with (
        rasterio.open(scene) as file,
        rasterio.open(
            tmp_path / 'clouds.tif',
            'w',
            **file.profile | {'count': 1, 'nodata': None, 'photometric': 'minisblack'},
        ) as mask,
    ):
        mask.write(cloud)
    made = make(
        (str(scene), inputs[1]), tmp_path / 'out', mask=str(tmp_path / 'clouds.tif'), fractions=(1.0,)
    )
    assert made.dropped == {'clouds or no data': 2}
    assert made.tiles == {'train': 14}


def test_parts_lie_apart(inputs, tmp_path):
    make(inputs, tmp_path / 'out', tile=32, questions=4, block_size=640.0, buffer=160.0)
    tiles = json.loads((tmp_path / 'out' / 'manifest.json').read_text())['tiles']
    for one in tiles:
        for other in tiles:
            if one['part'] != other['part']:
                middles = [np.add(tile['bounds'][:2], tile['bounds'][2:]) / 2 for tile in (one, other)]
                assert np.hypot(*(middles[0] - middles[1])) >= 320 + 160 - 1


def test_too_few_tiles_for_three_parts_are_training_data_and_say_so(inputs, tmp_path):
    made = make_questions([inputs[0]], inputs[1], tmp_path / 'out', MakeOptions(tile=64, questions=12))
    assert made.tiles == {'train': 16}
    (note,) = [note for note in made.notes if 'no split' in note]
    assert '--block-size' in note
    assert json.loads((tmp_path / 'out' / 'manifest.json').read_text())['notes'] == [note]
    for asked_for in ({'fractions': (0.7, 0.15, 0.15)}, {'block_size': 2_560.0}, {'buffer': 5_000.0}):
        with pytest.raises(UsageError, match='cannot be split'):
            make_questions([inputs[0]], inputs[1], tmp_path / 'other', MakeOptions(tile=64, **asked_for))


def test_the_published_way_of_asking(inputs, tmp_path):
    made = make(inputs, tmp_path / 'out', tile=128, questions=60, mode='faithful', fractions=(1.0,))
    asked = lines(tmp_path / 'out')
    assert made.questions['rural_urban'] == 4
    assert 'area' not in made.questions
    assert all(line['type'] == 'rural_urban' for line in asked if line['id'] % 60 == 0)
    for line in asked:
        assert parse(line['question']).to_dict() == line['form']
    square = [line for line in asked if '"square"' in json.dumps(line['form']) and line['type'] == 'count']
    assert all(line['answer'] == '0' for line in square)


def test_sixteen_bit_bands_are_stretched_to_eight(inputs, tmp_path):
    scene = write_scene(tmp_path / 'deep.tif', dtype='uint16')
    make((str(scene), inputs[1]), tmp_path / 'out', stretch=(0.0, 510.0), fractions=(1.0,))
    with rasterio.open(scene) as file, rasterio.open(tmp_path / 'out' / 'images' / '0.tif') as image:
        wanted = np.rint(file.read()[:, :64, :64] / 2)
        assert np.abs(image.read() - wanted).max() <= 1


def test_pictures_are_made_on_demand(inputs, tmp_path):
    make_questions([inputs[0]], inputs[1], tmp_path / 'out', SMALL, preview=2)
    assert len(list((tmp_path / 'out' / 'preview').glob('*.png'))) == 2


def run(*arguments):
    return CliRunner().invoke(app, ['questions', 'make', *map(str, arguments)], standalone_mode=False)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
@pytest.mark.parametrize(
    ('case', 'error', 'message'),
    [
        ('elsewhere', UsageError, 'no object that the mapping knows lies'),
        ('no crs', UsageError, 'has no CRS'),
        ('nodata', UsageError, r'no tile is usable \(16 clouds or no data\)'),
        ('no tags', UsageError, 'does not say what its objects are'),
        ('cut short', ReadError, 'cut short'),
        ('too small', UsageError, 'smaller --tile'),
        ('no osm', UsageError, 'is not there'),
        ('no scene', UsageError, 'no such file'),
        ('split', UsageError, 'cannot be split'),
        ('balance', UsageError, 'balance'),
        ('faithful', UsageError, 'balance is not its'),
        ('mode', UsageError, 'mode'),
        ('bbox', UsageError, 'does not overlap'),
        ('mapping', UsageError, 'mapping'),
    ],
)
def test_bad_input_is_one_error_and_leaves_nothing_behind(inputs, tmp_path, case, error, message):
    scene, osm = inputs[0], inputs[1][0]
    source = tmp_path / 'source'
    source.mkdir()
    more = ['--tile', 64, '--fractions', 1]
    if case == 'elsewhere':
        objects().translate(2e5, 0).to_frame('geometry').assign(fclass='forest').to_file(source / 'o.gpkg')
        osm = source / 'o.gpkg'
    elif case == 'no crs':
        scene = write_scene(source / 'bare.tif', crs=None)
    elif case == 'nodata':
        scene = write_scene(source / 'empty.tif', nodata=0, blank=[(0, 0, 256)])
    elif case == 'no tags':
        objects()[['geometry']].to_file(source / 'o.gpkg')
        osm = source / 'o.gpkg'
    elif case == 'cut short':
        osm = source / 'cut.osm.pbf'
        osm.write_bytes(helsinki().read_bytes()[:300_000])
    else:
        more += {
            'too small': ['--tile', 512],
            'split': ['--fractions', '0.7,0.15,0.15'],
            'balance': ['--balance', 'colour=1'],
            'faithful': ['--mode', 'faithful', '--balance', 'answers'],
            'mode': ['--mode', 'new'],
            'bbox': ['--bbox', 0, 0, 10, 10],
            'mapping': ['--mapping', source / 'none.yaml'],
        }.get(case, [])
        osm = source / 'none.gpkg' if case == 'no osm' else osm
        scene = source / 'none.tif' if case == 'no scene' else scene
    result = run(scene, '--osm', osm, '--out', tmp_path / 'out' / 'set', *more)
    assert isinstance(result.exception, error)
    with pytest.raises(GeoresError, match=message):
        raise result.exception
    left = list((tmp_path / 'out').rglob('*')) if (tmp_path / 'out').exists() else []
    assert left == []


def test_a_dataset_is_replaced_only_on_demand_and_other_folders_never(made, inputs, tmp_path):
    out = tmp_path / 'out'
    make(inputs, out)
    with pytest.raises(OutputError, match='--overwrite'):
        make(inputs, out)
    make_questions(
        [inputs[0]], inputs[1], out, MakeOptions(tile=128, questions=2, fractions=(1.0,)), overwrite=True
    )
    assert len(lines(out)) == 8
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('mine')
    with pytest.raises(OutputError, match='no dataset'):
        make_questions([inputs[0]], inputs[1], tmp_path / 'mine', SMALL, overwrite=True)


def test_invalid_and_self_touching_polygons_are_repaired_and_told(inputs, tmp_path):
    frame = objects(20)
    x, y = 401_000, 5_799_000
    bow = Polygon([(x, y), (x + 300, y + 300), (x + 300, y), (x, y + 300), (x, y)])
    frame.loc[1, 'geometry'] = bow
    frame.to_file(tmp_path / 'osm.gpkg')
    made = make((inputs[0], [str(tmp_path / 'osm.gpkg')]), tmp_path / 'out', fractions=(1.0,))
    assert any('repaired' in note for note in made.notes)


def test_balances_are_named_or_weights():
    assert parse_balance('questions') == QuestionBalance()
    assert parse_balance('answers').level == 'answers'
    assert parse_balance('presence=2,count=1').quotas(9) == {'presence': 6, 'count': 3}
    assert parse_balance('types, presence=2') == QuestionBalance({'presence': 2.0}, 'types')
    assert sum(QuestionBalance().quotas(101).values()) == 101
    for text in (
        '',
        'presence',
        'presence=x',
        'presence=-1',
        'presence=0',
        'comp=inf',
        'lc=1',
        'presence=nan',
        'answers,types',
        'presence=1,answers',
    ):
        with pytest.raises(UsageError, match='balance'):
            parse_balance(text)
    assert [answer_class('area', f'{n}m2') for n in (0, 10, 11, 1000, 1001)] == [
        '0', '1-10', '11-100', '101-1000', '>1000',
    ]  # fmt: skip


def test_objects_of_two_scenes_make_one_dataset(inputs, tmp_path):
    other = write_scene(tmp_path / 'other.tif', size=128)
    made = make_questions(
        [inputs[0], str(other)],
        inputs[1],
        tmp_path / 'out',
        MakeOptions(tile=128, questions=4, fractions=(1.0,)),
    )
    assert made.tiles == {'train': 5}
    assert len({line['img_id'] for line in lines(tmp_path / 'out')}) == 5
