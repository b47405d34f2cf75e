import json
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geores.datasets import RSVQA, RSVQADataModule
from geores.datasets._rsvqa_loading import TURNS, QuestionSampler, names_side, turn_image, turn_question
from geores.datasets._rsvqa_split import RADIUS, close_groups, near_any
from geores.errors import DatasetError

from ..rsvqa_fixtures import QUESTIONS, SIDE, SOUTH, WEST, write_image, write_json, write_plain, write_split

SIDES = ('top', 'left', 'bottom', 'right')


def boxes(columns):
    west = WEST + np.array(columns) * SIDE
    return np.stack([west, np.full_like(west, SOUTH), west + SIDE, np.full_like(west, SOUTH + SIDE)], axis=1)


def parts(folder, **options):
    module = RSVQADataModule(str(folder), **({'split': 'location', 'batch_size': 2} | options))
    module.setup()
    return module


@pytest.fixture(scope='module')
def row(tmp_path_factory):
    """Nine images in a row, of which 0 and 1 adjoin, and 2, 3 and 4 overlap in a chain."""
    folder = tmp_path_factory.mktemp('row') / 'lr'
    write_plain(folder, columns=(0, 1, 3, 3.5, 4.2, 7, 9, 11, 13))
    return folder


def test_images_that_adjoin_or_overlap_are_one_place():
    columns = [0, 1, 3, 3.5, 4.2, 7, 9]
    assert Counter(close_groups(boxes(columns))).most_common() == [(1, 3), (0, 2), (2, 1), (3, 1)]
    unknown = np.full((2, 4), np.nan)
    assert len(set(close_groups(np.vstack([boxes(columns), unknown])))) == 6


@given(st.lists(st.floats(0, 50), min_size=1, max_size=12), st.floats(0, 500))
def test_places_are_apart_by_the_buffer(columns, buffer):
    bounds = boxes(columns)
    groups = close_groups(bounds, buffer)
    for one, other in product(range(len(columns)), repeat=2):
        gap = (abs(columns[one] - columns[other]) - 1) * SIDE / np.cosh((SOUTH + SIDE) / RADIUS)
        if groups[one] != groups[other]:
            assert gap > buffer * 0.99
        near = near_any(bounds[[one]], bounds[[other]], buffer)[0]
        assert near <= (groups[one] == groups[other])


@pytest.mark.parametrize('seed', range(4))
def test_neighbours_are_never_on_two_sides(row, seed):
    split = parts(row, val_share=0.4, seed=seed).split
    assert sorted(split.train + split.val) == list(range(9))
    for place in ({0, 1}, {2, 3, 4}):
        assert place <= set(split.train) or place <= set(split.val)
    assert 'location-buffer0m' in split.id
    assert split == parts(row, val_share=0.4, seed=seed).split


def test_folds_by_location_hold_each_image_once(row):
    splits = [parts(row, folds=3, fold=fold).split for fold in (1, 2, 3)]
    assert sorted(image for split in splits for image in split.val) == list(range(9))
    assert len({split.id for split in splits}) == 3
    for split in splits:
        assert {0, 1} <= set(split.train) or {0, 1} <= set(split.val)


def test_folds_by_image_hold_each_image_once_wherever_it_lies(row):
    splits = [parts(row, split='image', folds=3, fold=fold).split for fold in (1, 2, 3)]
    assert sorted(image for split in splits for image in split.val) == list(range(9))
    assert all(sorted([*split.train, *split.val]) == list(range(9)) for split in splits)
    # 2, 3 and 4 overlap in a chain, and three folds of three images divide them for some seed.
    apart = [parts(row, split='image', folds=3, seed=seed).split for seed in range(4)]
    assert any(0 < len({2, 3, 4} & set(split.val)) < 3 for split in apart)


def test_a_share_of_the_images_can_be_kept(row):
    split = parts(row, split='image', val_share=0.4).split
    assert sorted([*split.train, *split.val]) == list(range(9))
    assert split.method.method == 'stratified'


def test_a_buffer_joins_more(row):
    with pytest.raises(DatasetError, match='1 groups of samples are too few'):
        _ = parts(row, folds=3, buffer=500)
    with pytest.raises(DatasetError, match='buffer'):
        _ = parts(row, folds=3, buffer=-1)


def test_everything_can_be_trained_on(row):
    module = parts(row, val_share=0)
    assert (len(module.split.train), module.split.val, module.val_dataloader()) == (9, [], [])
    assert module.split.id == 'everything'


def test_images_of_no_place_cannot_be_split_by_location(tmp_path):
    records = write_plain(tmp_path / 'lr')
    records['images'][1]['upperleft_map_x'] = None
    write_json(tmp_path / 'lr', '', records)
    with pytest.raises(DatasetError, match='1 of 5 images have no place'):
        parts(tmp_path / 'lr')


def test_official_splits_are_kept_and_tests_are_apart(tmp_path):
    write_split(tmp_path / 'lr', (('train', 3), ('val', 2), ('test', 1), ('test_phili', 2)))
    module = parts(tmp_path / 'lr', split='official')
    assert (module.split.train, module.split.val, module.split.id) == ([0, 1, 2], [3, 4], 'official')
    assert [sum(len(batch['question']) for batch in loader) for loader in module.test_dataloader()] == [4, 8]
    write_split(tmp_path / 'two', (('train', 3), ('test', 1)))
    two = parts(tmp_path / 'two', split='official')
    assert (two.split.train, two.split.val, len(two.test_dataloader())) == ([0, 1, 2], [], 1)
    moved = parts(tmp_path / 'lr', split='location', folds=2)
    assert sorted(moved.split.train + moved.split.val) == [0, 1, 2, 3, 4]
    write_plain(tmp_path / 'none')
    with pytest.raises(DatasetError, match="set split to 'location'"):
        parts(tmp_path / 'none', split='official')


def test_generated_questions_are_trained_on_but_not_near_what_is_held_out(row, tmp_path):
    own = parts(row, folds=3).split
    held = [(0, 1, 3, 3.5, 4.2, 7, 9, 11, 13)[image] for image in own.val]
    write_plain(tmp_path / 'made', columns=(held[0], 30, held[-1] + 0.9, 32))
    module = parts(row, folds=3, generated=[str(tmp_path / 'made')])
    assert module.split.val == own.val
    assert [module.dataset.image_ids[image] for image in module.split.train if image not in own.train] == [
        'made/1',
        'made/3',
    ]
    assert (module.left_out, module.split.id) == (2, f'{own.id}-generated2')


def test_of_generated_splits_the_training_part_alone_is_used(tmp_path):
    write_split(tmp_path / 'lr', (('train', 2), ('val', 1), ('test', 1)))
    write_split(tmp_path / 'made', (('train', 2), ('val', 1), ('test', 1)))
    for path in (tmp_path / 'made').glob('*_images.json'):
        records = json.loads(path.read_text())['images']
        for record in records:
            record.pop('upperleft_map_x', None)
        path.write_text(json.dumps({'images': records}))
    for path in (tmp_path / 'made' / 'Images_LR').glob('*.tif'):
        write_image(path.with_suffix('.png'), 9)
        path.unlink()
    module = parts(tmp_path / 'lr', split='official', generated=[str(tmp_path / 'made')])
    assert [module.dataset.image_ids[one] for one in module.split.train] == [
        'lr/0',
        'lr/1',
        'made/0',
        'made/1',
    ]
    assert (module.split.val, module.split.id) == ([2], 'official-generated2')
    assert len(module.test_dataloader()) == 1


def test_answers_that_training_lacks_are_class_0_and_stay_in(row):
    module = parts(row, variant='hr', folds=3)
    trained = {module.dataset.answers[index] for index in module.questions(module.split.train)}
    assert set(module.vocabulary.answers[1:]) == trained
    batches = list(module.val_dataloader())
    answers = [answer for batch in batches for answer in batch['answer']]
    labels = [label for batch in batches for label in batch['label'].tolist()]
    assert len(answers) == 4 * len(module.split.val)
    assert [label == 0 for label in labels] == [answer not in trained for answer in answers]
    assert sum(module.unknown.values()) == labels.count(0) > 0
    assert len(parts(row, classes=2).vocabulary) == 3


def test_answers_that_are_numbers_are_given_as_they_are_in_training_alone(row):
    module = parts(row, folds=3)
    for batch in module.train_dataloader():
        numbers = dict(zip(batch['id'], batch['number'].tolist(), strict=True))
        for name, kind, image in zip(batch['id'], batch['question_type'], batch['image_index'], strict=True):
            counted = 7 * int(batch['image_id'][image].split('/')[-1]) if kind == 'count' else None
            assert numbers[name] == counted if kind == 'count' else np.isnan(numbers[name])
    assert not any('number' in batch for batch in module.val_dataloader())


def test_an_epoch_has_every_training_question_once(row):
    module = parts(row, folds=3)
    seen = [name for batch in module.train_dataloader() for name in batch['id']]
    assert Counter(seen) == Counter(module.dataset.ids[one] for one in module.questions(module.split.train))
    few = list(parts(row, folds=3, questions_per_image=2, with_images=False).train_dataloader())
    assert all('image' not in batch and len(batch['id']) == 2 * len(batch['image_id']) for batch in few)
    single = list(parts(row, folds=3, by_image=False, batch_size=5).train_dataloader())
    assert [len(batch['id']) for batch in single[:-1]] == [5] * (len(single) - 1)
    assert any(len(batch['image_id']) > 2 for batch in single)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=6),
    st.integers(1, 9),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 4)),
    st.booleans(),
)
def test_a_sampler_says_how_many_batches_it_gives(counts, size, by_image, per_image, shuffle):
    ends = np.cumsum([0, *counts])
    some = [list(range(low, high)) for low, high in pairwise(ends)]
    sampler = QuestionSampler(some, size, by_image=by_image, per_image=per_image, shuffle=shuffle)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    drawn = [index for batch in batches for index in batch]
    assert len(drawn) == len(set(drawn)) == sum(len(one[:per_image]) for one in some)


def test_statistics_are_those_of_the_training_images(row):
    module = parts(row, folds=3)
    images = torch.stack([module.dataset.image(number) for number in module.split.train]).double()
    mean, std = module.statistics
    assert mean == pytest.approx(images.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(images.std((0, 2, 3), correction=0).tolist())


@pytest.mark.parametrize(
    'options',
    [
        {'split': 'random'},
        {'turning': 'always'},
        {'batch_size': 0},
        {'questions_per_image': 0},
        {'classes': 0},
        {'fold': 4, 'folds': 3},
        {'folds': 1},
        {'val_share': 1},
        {'variant': 'mr'},
        {'answers': 'ours'},
    ],
)
def test_arguments_are_checked(row, options):
    with pytest.raises(ValueError, match=next(iter(options)).split('_')[0]):
        parts(row, **options)


def marked(side):
    """An image whose one bright pixel lies at a side."""
    image = torch.zeros(1, 5, 5)
    row, column = {'top': (0, 2), 'left': (2, 0), 'bottom': (4, 2), 'right': (2, 4)}[side]
    image[0, row, column] = 1
    return image


@pytest.mark.parametrize(('side', 'turn'), list(product(SIDES, range(TURNS))))
def test_words_turn_as_pixels_do(side, turn):
    words = {'top': 'at the top', 'left': 'on the left', 'bottom': 'at the bottom', 'right': 'on the right'}
    turned = turn_image(marked(side), turn)
    (now,) = [other for other in SIDES if torch.equal(marked(other), turned)]
    asked = f'How many roads are {words[side]} of the  large building?'
    assert turn_question(asked, turn) == f'How many roads are {words[now]} of the  large building?'


def test_turns_are_the_eight_of_a_square():
    image = torch.arange(9.0).reshape(1, 3, 3)
    assert len({tuple(turn_image(image, turn).flatten().tolist()) for turn in range(TURNS)}) == TURNS
    for turn in (-1, TURNS, 1.5):
        with pytest.raises(DatasetError, match='turn'):
            turn_image(image, turn)


def test_questions_of_no_side_stay_and_odd_ones_cannot_turn():
    assert turn_question('Is there a road next to a building?', 3) == 'Is there a road next to a building?'
    for odd in ('What is left of it?', 'Are there houses north of the road?', 'Is the upper part wet?'):
        assert names_side(odd)
        assert turn_question(odd, 1) is None
        assert turn_question(odd, 0) == odd
    both = 'Are there more roads at the top of a river than roads on the left of a lake?'
    assert turn_question(both, 1) == (
        'Are there more roads on the left of a river than roads at the bottom of a lake?'
    )


@pytest.mark.parametrize('turning', ['words', 'guard'])
def test_training_images_turn_and_their_questions_with_them(row, turning):
    torch.manual_seed(3)
    module = parts(row, folds=3, turning=turning)
    batches = list(module.train_dataloader())
    turns = [turn for batch in batches for turn in batch['turn'].tolist()]
    # Each image has a question that names a side.
    assert (len(set(turns)) > 1) == (turning == 'words')
    plain = RSVQA(row)
    for batch in batches:
        for place, number in enumerate(batch['image_number'].tolist()):
            turn = int(batch['turn'][place])
            assert torch.equal(batch['image'][place], turn_image(plain.image(number), turn))
            mine = [batch['question'][one] for one in torch.where(batch['image_index'] == place)[0].tolist()]
            assert mine == [turn_question(question[1], turn) for question in QUESTIONS]
    assert 'turn' not in next(iter(module.val_dataloader()))


def test_images_turn_where_only_questions_without_a_side_are_asked(tmp_path):
    write_plain(tmp_path, questions=QUESTIONS[:2])
    torch.manual_seed(0)
    batches = parts(tmp_path, folds=2, turning='guard').train_dataloader()
    assert any(batch['turn'].any() for _ in range(5) for batch in batches)


# --- questions without their images


def test_folders_of_questions_only_are_learnt_but_not_seen(row, tmp_path):
    write_plain(tmp_path / 'more', columns=(20, 22), suffix='.tif')
    more = str(tmp_path / 'more')
    module = parts(row, generated=[more], questions_only=[more], val_share=0)
    names = {module.dataset.image_ids[number] for number in module.unseen}
    assert names == {'more/0', 'more/1'}
    for batch in module.train_dataloader():
        assert batch['unseen'].tolist() == [name in names for name in batch['image_id']]
    learnt = {name for batch in module.train_dataloader() for name in batch['id']}
    assert sum(name.startswith('more/') for name in learnt) == 2 * len(QUESTIONS)
    assert module.statistics == parts(row, val_share=0).statistics


def test_without_such_folders_all_images_are_seen(row):
    assert 'unseen' not in next(iter(parts(row).train_dataloader()))


def test_a_folder_of_questions_only_that_is_not_read_is_refused(row):
    with pytest.raises(DatasetError, match='questions_only'):
        parts(row, questions_only=['data/rsvqa'])
