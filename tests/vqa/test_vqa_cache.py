import numpy as np
import pytest
import torch
from torch import nn

from geores.datasets._rsvqa_loading import turn_image
from geores.errors import OutputError, UsageError
from geores.models.features import FeatureMap
from geores.vqa.model import TURNS, FeatureCache, feature_key, turned

pytestmark = pytest.mark.usefixtures('one_thread')


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 2, 2)

    def forward_features(self, images):
        return self.layer(images)


def encoder(seed=0, **kwargs):
    torch.manual_seed(seed)
    return FeatureMap(Tiny(), **({'places': range(3), 'in_chans': 3} | kwargs)).eval()


IMAGES = torch.rand(5, 3, 8, 8)
MEAN, STD = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)


@torch.no_grad()
def fill(folder, network, turns=1):
    cache = FeatureCache(folder, feature_key(network, MEAN, STD, list('abcde'), turns))
    calls = []
    filled = cache.fill(network, IMAGES.__getitem__, 5, turns, calls.append)
    # Several images are encoded together.
    assert calls == (([5] if turns == 1 else [4, 5]) if filled else [])
    return cache, filled


@torch.no_grad()
def test_features_are_those_of_the_encoder(tmp_path):
    network = encoder()
    cache, filled = fill(tmp_path, network)
    assert filled
    found = cache(torch.tensor([3, 0, 3]))
    torch.testing.assert_close(found, network(IMAGES[[3, 0, 3]]), atol=2e-3, rtol=1e-3)
    assert found.dtype == torch.float32
    assert not fill(tmp_path, network)[1]


@torch.no_grad()
def test_turned_images_have_features_of_their_own(tmp_path):
    network = encoder()
    cache, _ = fill(tmp_path, network, TURNS)
    for turn in range(TURNS):
        expected = network(turn_image(IMAGES[:2], turn))
        torch.testing.assert_close(
            cache(torch.arange(2), torch.full((2,), turn)), expected, atol=2e-3, rtol=1e-3
        )
        assert torch.equal(turned(IMAGES, turn), turn_image(IMAGES, turn))


def test_the_key_notices_what_changes_a_feature():
    network = encoder()
    names = ['a 10 5', 'b 10 6']
    key = feature_key(network, MEAN, STD, names, 1)
    assert key == feature_key(encoder(), MEAN, STD, names, 1)
    other = encoder()
    with torch.no_grad():
        other.network.layer.bias[0] += 1e-6
    strided = encoder()
    strided.network.layer.stride = (1, 1)
    keys = [
        feature_key(other, MEAN, STD, names, 1),
        feature_key(strided, MEAN, STD, names, 1),
        feature_key(encoder(grid=2), MEAN, STD, names, 1),
        feature_key(encoder(places=[2, 1, 0]), MEAN, STD, names, 1),
        feature_key(network, MEAN + 1e-6, STD, names, 1),
        feature_key(network, MEAN, STD * 2, names, 1),
        feature_key(network, MEAN, STD, ['a 10 5', 'b 10 7'], 1),
        feature_key(network, MEAN, STD, names[::-1], 1),
        feature_key(network, MEAN, STD, names, 8),
        feature_key(network, MEAN, STD, names, 1, 'cuda'),
    ]
    assert len({key, *keys}) == len(keys) + 1


def test_work_that_fails_leaves_nothing(tmp_path):
    def fails(number):
        if number == 2:
            raise KeyboardInterrupt
        return IMAGES[number]

    cache = FeatureCache(tmp_path, 'key')
    with torch.no_grad(), pytest.raises(KeyboardInterrupt):
        cache.fill(encoder(), fails, 5)
    with pytest.raises(UsageError, match='float16'):
        cache.fill(lambda images: images * 1e9, IMAGES.__getitem__, 5)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='file'):
        FeatureCache(tmp_path / 'file', 'key').fill(encoder(), IMAGES.__getitem__, 5)


def test_a_full_disk_is_noticed_before(tmp_path, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda path: type('Usage', (), {'free': 10}))
    with torch.no_grad(), pytest.raises(OutputError, match='GiB'):
        FeatureCache(tmp_path, 'key').fill(encoder(), IMAGES.__getitem__, 5)
    assert np.array(list(tmp_path.iterdir())).size == 0
