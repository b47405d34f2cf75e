"""RSVQA: questions and answers on satellite and aerial images.

LR and HR: Lobry, Marcos, Murray and Tuia 2020. RSVQAxBEN: Lobry, Demir and Tuia 2021.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geores.datasets._geotiff import open_geotiff, read_geotiff
from geores.datasets._module import ImageStore, NonGeoDataset, Pixels, Sample, read_rgb
from geores.datasets._rsvqa_split import MERCATOR, image_bounds
from geores.errors import DatasetError
from geores.questions.question_files import ImageEntry, QuestionEntry, QuestionFolder, read_question_folder
from geores.vqa.answers import AnswerEncoding, Style, Variant

__all__ = ['RSVQA', 'read_picture']

COLOURS = ('B04', 'B03', 'B02')
BRIGHTEST = 4096.0
"""Reflectance times 10,000 that becomes 255, as for the bundle `vqa-sentinel2`."""


class RSVQA(NonGeoDataset):
    """Questions on images, of RSVQA LR, HR or RSVQAxBEN, or of folders in their layout.

    A sample is one question: `image` (3, H, W) float32 0 to 255, `question`, `answer` (encoded),
    `raw_answer`, `question_type`, `bands`, `id` (source/question), `image_id` (source/image), `source` (name
    of the root's folder) and, where all places are known, `bounds` (west, south, east, north) and `crs`. An
    image has many questions: `batch` decodes it once for all of them.

    Args:
        root: folder with the JSON files, split or not, and images in `images/` or beside them; or several.
            Images are 8-bit colour, or GeoTIFFs of Sentinel-2 with bands B04, B03 and B02 (`read_picture`).
        variant: 'lr', 'hr' or 'xben': says which answers are binned.
        split: 'train', 'val', 'test' or 'test_phili' of the official files; None takes all that there are.
        answers: names of the bins, 'official' or 'paper'.
        size: height and width to bring images to; None leaves them, and all have to have one size.
        budget: maximum number of bytes of images to hold in memory.
        reader: from an image's id to pixels (3, H, W), uint8, for images that are no files, such as patches
            in a store; their places are unknown.

    Raises:
        DatasetError: if a file is missing, files disagree, a question is empty or too long, or an answer is
            none that its question can have.
    """

    bands: tuple[str, ...] = ('red', 'green', 'blue')

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        variant: Variant = 'lr',
        split: str | None = None,
        answers: Style = 'official',
        size: int | None = None,
        budget: int = 2**31,
        reader: Callable[[str], Pixels] | None = None,
    ) -> None:
        self.encoding = AnswerEncoding(answers, variant)
        self.reader = reader
        if reader is not None and size is not None:
            raise DatasetError('size has to be None where a reader gives the images: resize them there')
        roots = [Path(one) for one in ([root] if isinstance(root, (str, Path)) else root)]
        sources = [read_question_folder(one, None if reader is None else Path) for one in roots]
        _check_names(roots, sources)
        kept = [_of_split(one, source, split) for one, source in zip(roots, sources, strict=True)]
        self.entries: list[ImageEntry] = [image for source in kept for image in source.images]
        self.image_sources = [source.name for source in kept for _ in source.images]
        self.image_ids = [f'{source.name}/{image.id}' for source in kept for image in source.images]
        self.image_splits = [image.split for image in self.entries]
        self.questions: list[QuestionEntry] = [question for source in kept for question in source.questions]
        self.sources = [source.name for source in kept for _ in source.questions]
        self.ids = [f'{source.name}/{question.id}' for source in kept for question in source.questions]
        numbers = {name: number for number, name in enumerate(self.image_ids)}
        self.image_numbers: NDArray[np.int64] = np.array(
            [
                numbers[f'{source}/{question.image}']
                for source, question in zip(self.sources, self.questions, strict=True)
            ]
        )
        self.question_types = [question.type for question in self.questions]
        self.answers = [
            self._encode(name, question) for name, question in zip(self.ids, self.questions, strict=True)
        ]
        read = partial(read_picture, size=size) if reader is None else partial(_read_from, reader)
        self.images = ImageStore([image.path for image in self.entries], read, budget)

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> Sample:
        number = int(self.image_numbers[index])
        question = self.questions[index]
        placed = np.isfinite(self.bounds).all()  # samples of one dataset have the same keys
        place = {'bounds': tuple(self.bounds[number].tolist()), 'crs': MERCATOR} if placed else {}
        return {
            'image': self.image(number),
            'question': question.text,
            'answer': self.answers[index],
            'raw_answer': question.answer,
            'question_type': question.type,
            'bands': self.bands,
            'source': self.sources[index],
            'id': self.ids[index],
            'image_id': self.image_ids[number],
        } | place

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """(images, 4): west, south, east, north in Web Mercator (EPSG:3857), NaN where unknown."""
        if self.reader is not None:
            return np.full((len(self.entries), 4), np.nan)
        mercator = self.encoding.variant != 'xben'  # whose JSON gives the corner in the patch's UTM zone
        boxes = [image_bounds(entry, mercator=mercator) for entry in self.entries]
        return np.array([box or (np.nan,) * 4 for box in boxes], np.float64).reshape(-1, 4)

    @cached_property
    def questions_of(self) -> list[list[int]]:
        """Indices of the questions on each image."""
        positions: list[list[int]] = [[] for _ in self.entries]
        for index, number in enumerate(self.image_numbers.tolist()):
            positions[number].append(index)
        return positions

    @cached_property
    def numbers(self) -> torch.Tensor:
        """Answers that are numbers in the files, such as 449 or 10632 (m²): (Q,), NaN for all others."""
        bounds = [self.encoding.bounds(question.answer) for question in self.questions]
        known = [one is not None and one[0] == one[1] for one in bounds]
        values = [one[0] if one and exact else np.nan for one, exact in zip(bounds, known, strict=True)]
        return torch.tensor(values, dtype=torch.float32)

    def image(self, number: int) -> torch.Tensor:
        """Read one image, (3, H, W) float32, 0 to 255.

        Args:
            number: its position among `image_ids`.

        Raises:
            DatasetError: if it cannot be read, or is of another size than the first.
        """
        pixels = self.images[number]
        if pixels.shape != self.image_shape:
            raise DatasetError(
                f'{self.entries[number].path}: {pixels.shape[1]} x {pixels.shape[2]} pixels, and '
                f'{self.entries[0].path.name} has {self.image_shape[1]} x {self.image_shape[2]}; set size'
            )
        return torch.from_numpy(pixels.astype(np.float32))

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """Shape (3, H, W) of the first image, which all images share."""
        return tuple(self.images[0].shape)

    def batch(self, indices: Sequence[int], *, with_images: bool = True) -> Sample:
        """Read questions, with each of their images once.

        Args:
            indices: positions of questions.
            with_images: decode the images; without, features that were computed before can take their place.

        Returns:
            `image` (N, 3, H, W), `image_id` (N names) and `image_number` (N,) of the images as they first
            come; `question`, `answer`, `question_type`, `id` (lists of Q) and `image_index` (Q,), which image
            a question is on.
        """
        numbers = self.image_numbers[list(indices)].tolist()
        places = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
        pixels = {'image': torch.stack([self.image(number) for number in places])} if with_images else {}
        return pixels | {
            'image_id': [self.image_ids[number] for number in places],
            'image_number': torch.tensor(list(places)),
            'image_index': torch.tensor([places[number] for number in numbers]),
            'question': [self.questions[index].text for index in indices],
            'answer': [self.answers[index] for index in indices],
            'question_type': [self.question_types[index] for index in indices],
            'id': [self.ids[index] for index in indices],
        }

    def _encode(self, name: str, question: QuestionEntry) -> str:
        try:
            return self.encoding.encode(question.type, question.answer)
        except DatasetError as error:
            raise DatasetError(
                f'question {name}: {error} (answers of variant {self.encoding.variant!r})'
            ) from None


def _of_split(root: Path, source: QuestionFolder, split: str | None) -> QuestionFolder:
    if split is None:
        return source
    images = [image for image in source.images if image.split == split]
    if not images:
        there = ', '.join(sorted({image.split for image in source.images} - {''})) or 'none'
        raise DatasetError(f'{root}: has no split {split!r}; there: {there}')
    names = {image.id for image in images}
    return QuestionFolder(source.name, images, [one for one in source.questions if one.image in names])


def _check_names(roots: Sequence[Path], sources: Sequence[QuestionFolder]) -> None:
    seen: dict[str, Path] = {}
    for root, source in zip(roots, sources, strict=True):
        if source.name in seen:
            raise DatasetError(
                f'{root} and {seen[source.name]} are both called {source.name!r}: rename one, for ids start '
                'with the name of the folder'
            )
        seen[source.name] = root


def _read_from(reader: Callable[[str], Pixels], path: Path) -> Pixels:
    """Read an image by a reader, and check its shape and data type."""
    pixels = np.asarray(reader(str(path)))
    if pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.dtype != np.uint8:
        raise DatasetError(
            f'image {path}: {pixels.dtype} of shape {pixels.shape}, and uint8 (3, H, W) is needed'
        )
    return pixels


def read_picture(path: Path, size: int | None = None) -> Pixels:
    """Read an image in 8-bit colour.

    Args:
        path: JPEG, PNG or TIFF in 8-bit colour; or a GeoTIFF of Sentinel-2 with bands described as B04, B03
            and B02, whose reflectances times 10,000 from 0 to `BRIGHTEST` become 0 to 255.
        size: height and width of the result.

    Returns:
        (3, H, W), uint8, red, green, blue.

    Raises:
        DatasetError: if it cannot be read, or is of another kind.
    """
    if path.suffix.lower() not in {'.tif', '.tiff'} or not _holds_reflectance(path):
        return read_rgb(path, size)
    values = read_geotiff(path, COLOURS, size).astype(np.float32)
    return np.asarray((values * (255 / BRIGHTEST)).round().clip(0, 255), np.uint8)


def _holds_reflectance(path: Path) -> bool:
    try:
        with open_geotiff(path) as file:
            return file.dtypes[0] == 'uint16' and set(COLOURS) <= set(file.descriptions)
    except DatasetError:
        return False  # `read_rgb` says what is wrong
