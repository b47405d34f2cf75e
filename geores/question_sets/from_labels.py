"""Make a set of questions from images with labels, in the file layout of the RSVQA release.

`read_labelled` reads any layout of labelled images that geores knows, and `questions_from_labels` draws the
questions and writes them.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image
from rasterio.errors import RasterioError

from geores.errors import DatasetError, ReadError
from geores.io.tables import check_cells, check_keys
from geores.io.whole_files import check_folder_free, whole_folder
from geores.question_sets.options import LabelOptions
from geores.questions.label_questions import LabelQuestion, label_questions
from geores.questions.labels import LabelScheme, load_scheme, scheme_for
from geores.questions.official import answer_record, image_record, question_record, write_official
from geores.scenes.gdal import open_dataset

__all__ = ['LabelQuestionSet', 'LabelledSet', 'questions_from_labels', 'read_labelled']

_ID_COLUMNS = ('id', 'patch_id', 'name', 'file')


@dataclass(frozen=True)
class LabelledSet:
    """Images and their labels.

    Attributes:
        ids: id of each image.
        labels: names of the labels of each image.
        paths: file of each image; None if only a table was given.
        single: whether every image has exactly one label.
    """

    ids: Sequence[str]
    labels: Sequence[tuple[str, ...]]
    paths: Sequence[Path] | None
    single: bool

    @property
    def names(self) -> set[str]:
        """All labels that occur."""
        return {name for labels in self.labels for name in labels}


def read_labelled(data: Path) -> LabelledSet:
    """Detect the layout of a dataset and read its labels.

    Args:
        data: a folder with `multilabels.csv` (`geores.datasets.SceneFolder`), one with `labels.csv`
            (`geores.datasets.GeoTIFFPatches`), one with one folder per class; or a table without images:
            Parquet with a column of ids (`id`, `patch_id`, `name` or `file`) and one of lists, `labels`.

    Raises:
        DatasetError: if the data have none of these layouts, or a part is missing.
    """
    if data.is_file():
        return _table(data)
    if not data.is_dir():
        raise DatasetError(f'{data}: no such folder or table')
    return _patches(data) if (data / 'labels.csv').is_file() else _scenes(data)


def _scenes(data: Path) -> LabelledSet:
    from geores.datasets import SceneFolder

    several = (data / 'multilabels.csv').is_file()
    found = SceneFolder(data, 'multi-label' if several else 'scene')
    labels = [
        tuple(name for name, value in zip(found.labels, target, strict=True) if value)
        if several
        else (found.labels[int(target)],)
        for target in found.targets
    ]
    return LabelledSet(found.ids, labels, [item.path for item in found.items], not several)


def _patches(data: Path) -> LabelledSet:
    from geores.datasets import GeoTIFFPatches

    found = GeoTIFFPatches(data)
    paths = [data / 'images' / one.partition('/')[2] for one in found.ids]
    return LabelledSet(found.ids, [(found.labels[int(target)],) for target in found.targets], paths, True)


def _table(data: Path) -> LabelledSet:
    import pandas as pd

    check_cells(data)
    try:
        table = pd.read_parquet(data)
    except (OSError, ValueError) as error:
        raise DatasetError(f'{data}: not a Parquet table: {error}') from error
    column = next((name for name in _ID_COLUMNS if name in table), None)
    if column is None or 'labels' not in table:
        raise DatasetError(f'{data}: needs a column labels and one of {", ".join(_ID_COLUMNS)}')
    if not all(hasattr(one, '__iter__') and not isinstance(one, str) for one in table['labels']):
        raise DatasetError(f'{data}: the column labels has to hold lists of names')
    check_keys(data, {column: table[column]})
    labels = [tuple(str(name) for name in one) for one in table['labels']]
    return LabelledSet([str(one) for one in table[column]], labels, None, False)


_TIFF = frozenset({'.tif', '.tiff'})


@dataclass(frozen=True)
class LabelQuestionSet:
    """Counts of the set of questions that was made.

    Attributes:
        folder: folder of the set.
        scheme: name of the scheme of labels.
        images: number of images.
        questions: number of questions.
        types: number of questions per type.
        answers: number of "yes" and "no", and number of different other answers.
    """

    folder: str
    scheme: str
    images: int
    questions: int
    types: dict[str, int]
    answers: dict[str, int]


def questions_from_labels(
    data: str | Path,
    out: str | Path,
    options: LabelOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LabelQuestionSet:
    """Make a set of questions from labelled images.

    Args:
        data: a dataset that `geores.question_sets.from_labels.read_labelled` can read.
        out: folder for `images.json`, `questions.json`, `answers.json`, `manifest.json` and `images/`; it
            appears complete or not at all.
        options: what to ask.
        overwrite: replace the folder.
        progress: called with the number of images just finished and of all images.

    Returns:
        Counts of what was made.

    Raises:
        DatasetError: if the labels cannot be read.
        UsageError: if an option is wrong or no scheme fits.
        OutputError: if the folder exists and is not empty.
    """
    options = options or LabelOptions()
    data, out = Path(data), Path(out)
    check_folder_free(out, overwrite=overwrite, kind='dataset of questions', marks=['manifest.json'])
    found = read_labelled(data)
    scheme = load_scheme(options.hierarchy) if options.hierarchy else scheme_for(found.names, found.single)
    drawn = label_questions(
        list(zip(found.ids, found.labels, strict=True)),
        scheme,
        questions=options.questions,
        seed=options.seed,
        mode=options.mode,
        balance=options.balance,
        kinds=options.kinds,
        style=options.style,
    )
    with whole_folder(out) as folder:
        made = _write(folder, found, scheme, drawn, options, progress)
        counts = {name: value for name, value in asdict(made).items() if name != 'folder'}
        manifest = _manifest(data, found, scheme, options) | counts
        (folder / 'manifest.json').write_text(json.dumps(manifest, indent=1) + '\n', encoding='utf-8')
    return LabelQuestionSet(**(asdict(made) | {'folder': str(out)}))


def _write(
    folder: Path,
    found: LabelledSet,
    scheme: LabelScheme,
    drawn: Iterator[LabelQuestion],
    options: LabelOptions,
    progress: Callable[[int, int], None] | None,
) -> LabelQuestionSet:
    """Write images and the official files, without the images that have no question."""
    position = {one: index for index, one in enumerate(found.ids)}
    images: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for source, group in groupby(drawn, key=lambda question: question.image):
        number, index, first = len(images), position[source], len(questions)
        path = found.paths[index] if found.paths is not None and options.images else None
        name, where = _put_image(path, folder / 'images', number) if path else (source, {'sensor': 'unknown'})
        for question in group:
            count = len(questions)
            form = question.form.to_dict()
            questions.append(question_record(count, number, question.type, question.text, form=form))
            answers.append(answer_record(count, count, question.answer))
        ids = range(first, len(questions))
        more = {'source': source, 'labels': sorted(found.labels[index])}
        images.append(image_record(number, name, ids, **where, **more))
        if progress is not None:
            progress(1, len(found.ids))
    if not questions:
        raise DatasetError('the labels decide no question: give --balance types, or another --hierarchy')
    write_official(folder, images, questions, answers)
    types = Counter(question['type'] for question in questions)
    texts = Counter(answer['answer'] for answer in answers)
    others = len(set(texts) - {'yes', 'no'})
    return LabelQuestionSet(
        str(folder),
        scheme.name,
        len(images),
        len(questions),
        dict(sorted(types.items())),
        {'yes': texts['yes'], 'no': texts['no'], 'others': others},
    )


def _put_image(path: Path, folder: Path, number: int) -> tuple[str, dict[str, Any]]:
    """Copy a GeoTIFF or PNG unchanged, anything else as PNG. Returns its name and what its header says."""
    folder.mkdir(exist_ok=True)
    suffix = path.suffix.lower()
    try:
        if suffix in _TIFF:
            shutil.copyfile(path, folder / f'{number}.tif')
            return f'{number}.tif', _header(path)
        if suffix == '.png':
            shutil.copyfile(path, folder / f'{number}.png')
        else:
            with Image.open(path, formats=('JPEG', 'PNG', 'TIFF')) as image:
                image.convert('RGB').save(folder / f'{number}.png')
    except (OSError, RasterioError) as error:
        raise ReadError(f'{path}: cannot be copied: {error}') from error
    return f'{number}.png', {'sensor': 'unknown'}


def _header(path: Path) -> dict[str, Any]:
    """Sensor, corner and pixel size, as keywords of `image_record`."""
    with open_dataset(os.path.abspath(path), 'GTiff', quiet=True) as file:
        sensor = 'S2' if 'B02' in file.descriptions else 'unknown'
        if file.crs is None:
            return {'sensor': sensor}
        corner = (file.transform.c, file.transform.f)
        return {'sensor': sensor, 'upper_left': corner, 'resolution': f'{file.transform.a:g}m'}


def _manifest(data: Path, found: LabelledSet, scheme: LabelScheme, options: LabelOptions) -> dict[str, Any]:
    """Everything that decides the questions: equal manifests mean equal bytes."""
    table = json.dumps([[one, sorted(labels)] for one, labels in zip(found.ids, found.labels, strict=True)])
    return {
        'geores_version': version('geores'),
        'route': 'labels',
        'data': data.resolve().name,
        'labels_sha256': hashlib.sha256(table.encode()).hexdigest(),
        'options': asdict(options) | {'hierarchy': scheme.name},
    }
