"""Several devices in one command, with copies of a network on the CPU in place of GPUs."""

from contextlib import nullcontext
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import geores
from geores.asking.encoding import EncodeStep
from geores.classification.options import ClassifyOptions
from geores.errors import GeoresError, UsageError
from geores.inference.prepared import prepare_scene
from geores.runtime.base import pick_devices
from geores.runtime.predictor import ManyDevices, Predictor, device_streams
from geores.scenes import open_scene

from ..ask_fixtures import oracle_bundle
from ..fixtures import hold_files, write_scene
from ..pixel_fixtures import pixel_bundle  # noqa: F401


@pytest.mark.parametrize('kind', ['bundle', 'pixel_bundle'])
def test_one_two_and_four_devices_write_the_same_bytes(kind, tmp_path, request, monkeypatch):
    model = request.getfixturevalue(kind)
    scene = write_scene(tmp_path / 'scene.tif', height=200, width=260, compress='deflate', blocks=64)
    used, wanted, enough = set(), 1, Event()
    plain = Predictor.__call__

    def slow(self, tiles):
        used.add(id(self))
        if len(used) >= wanted:
            enough.set()
        assert enough.wait(120)  # so that another thread takes the next batch
        return plain(self, tiles)

    monkeypatch.setattr(Predictor, '__call__', slow)
    written = {}
    for count in (1, 2, 4):
        out, device = tmp_path / str(count), ','.join(['cpu'] * count)
        wanted = min(count, 2)
        used.clear()
        enough.clear()
        options = {'tile': 48, 'batch_size': 2} if kind == 'pixel_bundle' else {'stride': 16}
        (outcome,) = geores.classify_many([scene], model, out=out, device=device, workers=4, **options)
        assert outcome.result.info.device == device.replace(',', ', ')
        assert len(used) >= wanted
        names = [name for name in hold_files(out) if name != 'run.json']
        written[count] = {name: (out / name).read_bytes() for name in names}
    assert written[1] == written[2] == written[4]


def test_threads_take_devices_in_turn(bundle, monkeypatch):
    first = Predictor(geores.load_model(bundle))
    step = ManyDevices(first, ('cpu', 'cpu', 'cpu'))
    assert step.each[0] is first
    assert len({id(one.runtime) for one in step.each}) == 3
    assert (step.precision, step.model) == (first.precision, first.model)


def test_devices_that_are_not_there_or_differ(monkeypatch):
    assert pick_devices('cpu, cpu') == ('cpu', 'cpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    for names, reason in (('all', 'no CUDA device'), ('cpu,cuda:1', 'not available'), ('cpu,', 'unknown')):
        with pytest.raises(UsageError, match=reason):
            pick_devices(names)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: f'kind of {device}')
    with pytest.raises(UsageError, match='of different kinds'):
        pick_devices('all')
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'one kind')
    assert pick_devices('all') == pick_devices('cuda:0,cuda:1') == ('cuda:0', 'cuda:1')


def test_what_takes_one_device(bundle, tmp_path):
    scene = write_scene(tmp_path / 'scene.tif', height=64, width=64)
    with pytest.raises(UsageError, match='--compile takes one --device'):
        geores.classify(scene, bundle, device='cpu,cpu', compile=True)


def test_a_lack_of_memory_is_one_line(bundle, monkeypatch):
    step = Predictor(geores.load_model(bundle))
    step.model = SimpleNamespace(device=torch.device('cuda'), card=step.model.card)

    def lacking(tensor):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(torch.cuda, 'Stream', lambda device: device)
    monkeypatch.setattr(torch.cuda, 'stream', lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lacking)
    device_streams.cache_clear()
    with pytest.raises(GeoresError, match='no memory for 2 tiles at once: give a smaller --batch-size'):
        step(np.zeros((2, 3, 32, 32), np.float32))
    device_streams.cache_clear()


@pytest.mark.parametrize(
    ('tile', 'stride', 'device', 'batch'),
    [(512, 16, 'cuda', 25), (64, 64, 'cuda', 100), (64, 16, 'cuda', 245), (512, 16, 'cpu', 8)],
)
def test_batches_are_sized_by_pixels_and_share_a_chunk(bundle, tmp_path, tile, stride, device, batch):
    scene = open_scene(write_scene(tmp_path / 'scene.tif', height=600, width=600))
    options = ClassifyOptions.from_options({'tile': tile, 'stride': stride})
    prepared = prepare_scene(scene, geores.load_model(bundle).card, options, device=device)
    assert prepared.plan.batch_size == batch


def test_asking_computes_as_classifying_does(tmp_path):
    model = geores.load_model(oracle_bundle(tmp_path / 'oracle'))
    tiles = np.random.default_rng(0).uniform(0, 255, (3, len(model.card.bands), 64, 64)).astype(np.float32)
    step = EncodeStep(model, 'fp32')
    assert isinstance(step, Predictor)
    assert EncodeStep(model, 'fp32').runtime is step.runtime
    wanted = model.network.encode(model.normalise(torch.from_numpy(tiles))).detach().half().numpy()
    np.testing.assert_allclose(step(tiles.copy())['features'], wanted, rtol=2e-3)
    with pytest.raises(GeoresError, match='not finite as float16'):
        step(tiles * np.float32(1e6))
