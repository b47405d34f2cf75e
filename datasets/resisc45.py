"""NWPU-RESISC45 (Cheng, Han and Lu 2017): 31,500 scenes of 256 x 256 pixels, 700 in each of 45 classes.

torchgeo's dataset fetches, checks and unpacks the files; the draws of the paper's protocol, the fixed lists
and samples in geores' form are here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from geores.card_values import DataSource, SplitMethod
from geores.datasets._module import (
    ImageDataModule,
    ImageStore,
    LabelledImages,
    Pixels,
    TorchgeoRESISC45,
    read_rgb,
)
from geores.datasets.folder import SceneFolder
from geores.errors import DatasetError
from geores.splits import Split
from geores.splits.stratified import MOST_REPEATS, ratio_split, split_name

__all__ = ['CLASSES', 'REPEATS', 'RESISC45', 'RESISC45DataModule']

# fmt: off
CLASSES = (
    'airplane', 'airport', 'baseball_diamond', 'basketball_court', 'beach', 'bridge', 'chaparral', 'church',
    'circular_farmland', 'cloud', 'commercial_area', 'dense_residential', 'desert', 'forest', 'freeway',
    'golf_course', 'ground_track_field', 'harbor', 'industrial_area', 'intersection', 'island', 'lake',
    'meadow', 'medium_residential', 'mobile_home_park', 'mountain', 'overpass', 'palace', 'parking_lot',
    'railway', 'railway_station', 'rectangular_farmland', 'river', 'roundabout', 'runway', 'sea_ice', 'ship',
    'snowberg', 'sparse_residential', 'stadium', 'storage_tank', 'tennis_court', 'terrace',
    'thermal_power_station', 'wetland',
)
# fmt: on
"""The 45 classes in the order of labels."""

SOURCE = DataSource(
    name='NWPU-RESISC45',
    licence='Google Earth imagery, academic use',
    also=('RESISC45',),
    note='Cheng, Han and Lu 2017',
)
"""The data set, for cards of models that it trained."""

REPEATS = 10
"""Random draws at each training ratio, in the paper."""

Part = Literal['train', 'val', 'test', 'all']

_NAMED = 5


class RESISC45(SceneFolder):
    """Scenes of NWPU-RESISC45.

    A sample has `image` (3, H, W) float32 0 to 255, `label` int64 (place in `CLASSES`), `bands`, `source`
    and `id` (class/file name).

    Args:
        root: folder that holds `NWPU-RESISC45/<class>/<class>_<number>.jpg`, or the folder of the classes
            itself.
        split: 'all', or a part of the fixed 60/20/20 split (Neumann et al. 2019), whose lists
            `resisc45-train.txt`, `-val.txt` and `-test.txt` lie in `root` or beside the classes' folder.
        size: height and width to bring images to; None leaves them.
        budget: maximum number of bytes of images to hold in memory.
        download: fetch and unpack images and lists where they are absent (about 400 MB).
        checksum: verify the MD5 of downloaded files.

    Raises:
        DatasetError: if the folder, a class, a list or an image that a list names is missing; says where it
            was looked for.
    """

    def __init__(
        self,
        root: str | Path,
        split: Part = 'all',
        size: int | None = None,
        budget: int = 2**31,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        if split not in get_args(Part):
            raise DatasetError(f'split has to be one of {", ".join(get_args(Part))}, not {split!r}')
        if download:
            _download(Path(root), checksum=checksum)
        self.folder = _class_folder(Path(root))
        super().__init__(self.folder, 'scene', size, budget)
        _check_classes(self.folder, self.labels)
        # Without the name of the folder, so that draws do not depend on it.
        self.ids = [f'{item.scene}/{item.path.name}' for item in self.items]
        if split != 'all':
            self._keep(_places(self.folder, self.ids, split), partial(read_rgb, size=size), budget)

    def _keep(self, places: Sequence[int], read: Callable[[Path], Pixels], budget: int) -> None:
        self.items = [self.items[place] for place in places]
        self.targets = self.targets[places]
        self.ids, self.sources, self.strata = (
            [values[place] for place in places] for values in (self.ids, self.sources, self.strata)
        )
        self.images = ImageStore([item.path for item in self.items], read, budget)


class RESISC45DataModule(ImageDataModule):
    """NWPU-RESISC45 by the paper's protocol, or by the fixed lists.

    By the protocol `ratio` of each class is drawn for training and the rest, the test part, is what
    validation shows: choose nothing by it. The draws are those of `geores baselines`. By the lists the
    validation part is the list's, and `RESISC45(root, 'test')` is left for the end.

    Args:
        root: as in `RESISC45`.
        ratio: part of each class to train on, 0.1 and 0.2 in the paper; None takes the fixed lists.
        repeat: number of the random draw, from 0; the paper averages ten.
        size: height and width to bring images to; None leaves them.
        batch_size: images per batch.
        seed: random seed of the draws.
        num_workers: number of reader processes; 0 is best for images held in memory.
        budget: most bytes of images to hold in memory; 6.2 GB hold all at their own size.
        download: as in `RESISC45`.
        checksum: as in `RESISC45`.

    Raises:
        DatasetError: if the ratio or the repeat is out of range.
    """

    def __init__(
        self,
        root: str,
        ratio: float | None = 0.1,
        repeat: int = 0,
        size: int | None = None,
        batch_size: int = 64,
        seed: int = 0,
        num_workers: int = 0,
        budget: int = 2**33,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        if ratio is not None and not 0 < ratio < 1:
            raise DatasetError(f'ratio has to be above 0 and below 1, not {ratio}')
        if not 0 <= repeat < MOST_REPEATS:
            raise DatasetError(f'repeat has to be from 0 to {MOST_REPEATS - 1}, not {repeat}')
        super().__init__(batch_size, seed=seed, num_workers=num_workers)
        self.root, self.ratio, self.repeat, self.size = root, ratio, repeat, size
        self.budget, self.download, self.checksum = budget, download, checksum

    @property
    def card_text(self) -> Mapping[str, Any]:
        """Defaults from Cheng, Han and Lu 2017."""
        return {
            'sensor': 'Google Earth imagery, true colour',
            'processing_level': '8-bit true colour',
            'units': '8-bit',
            'gsd': (0.2, 30),
            'display_stretch': (2, 98),
            'training_data': (SOURCE,),
            'licence': 'Academic use, as NWPU-RESISC45.',
        }

    def make_dataset(self) -> LabelledImages:
        """Index the files; no image is decoded yet."""
        return RESISC45(self.root, 'all', self.size, self.budget, self.download, self.checksum)

    def _divide(self, known: list[int]) -> Split:
        data = self.dataset
        if self.ratio is not None:
            return ratio_split(data.ids, data.strata, self.ratio, self.repeat, self.seed)
        folder = _class_folder(Path(self.root))
        train, val = (_places(folder, data.ids, part) for part in ('train', 'val'))
        method = SplitMethod(method='official', parts=('train', 'val'))
        return Split(train, val, split_name('resisc45-lists', data.ids, val), method=method)


def _download(root: Path, *, checksum: bool) -> None:
    try:
        TorchgeoRESISC45(root, download=True, checksum=checksum)
    except Exception as error:  # whatever network, archive or disk make of it
        raise DatasetError(f'{root}: NWPU-RESISC45 cannot be fetched: {error}') from error


def _class_folder(root: Path) -> Path:
    """Find the folder that holds the class folders."""
    inner = root / TorchgeoRESISC45.directory
    folder = inner if inner.is_dir() else root
    if not any((folder / name).is_dir() for name in CLASSES):
        raise DatasetError(
            f'{root.absolute()}: no NWPU-RESISC45 here; looked for {inner.name}/airplane and airplane: set '
            'root to the folder that holds them, or download=True'
        )
    return folder


def _check_classes(folder: Path, found: Sequence[str]) -> None:
    missing = [name for name in CLASSES if name not in found]
    if missing:
        raise DatasetError(
            f'{folder.absolute()}: no images of {len(missing)} of the 45 classes: {_some(missing)}; '
            'unpack the archive again, or take SceneFolder for a part of the classes'
        )
    other = [name for name in found if name not in CLASSES]
    if other:
        raise DatasetError(
            f'{folder.absolute()}: {_some(other)} is no class of NWPU-RESISC45: move it elsewhere'
        )


def _places(folder: Path, ids: Sequence[str], split: str) -> list[int]:
    """Indices of the images that a list names; all of them have to exist."""
    path = _list_file(folder, split)
    names = sorted(set(path.read_text(encoding='utf-8').split()))
    here = {name.rpartition('/')[2]: place for place, name in enumerate(ids)}
    absent = [name for name in names if name not in here]
    if absent:
        raise DatasetError(f'{path}: names {len(absent)} images that are not here: {_some(absent)}')
    if not names:
        raise DatasetError(f'{path}: names no images')
    return sorted(here[name] for name in names)


def _list_file(folder: Path, split: str) -> Path:
    name = f'resisc45-{split}.txt'
    for place in (folder.parent, folder):
        if (place / name).is_file():
            return place / name
    raise DatasetError(
        f'{folder.parent.absolute()}: no list {name}, which the fixed split needs; download=True '
        'fetches it, and a training ratio needs none'
    )


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:_NAMED]) + (f' and {len(names) - _NAMED} more' if len(names) > _NAMED else '')
