"""Evaluate a model that answers questions, compared with image-blind baselines.

The baselines are the most frequent answer and a model that was trained on questions alone. What they
get right needs no image, so a figure of visual question answering means little without them (Lobry et al.
2020).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from geores.errors import UsageError
from geores.evaluation.files import check_answer_files
from geores.evaluation.question_report import VQAEvaluation
from geores.evaluation.questions import EvaluationQuestions, Folders, find_questions
from geores.models.latents import FactorHead
from geores.runtime.base import DTYPES, Precision
from geores.runtime.predictor import check_precision
from geores.tasks.schedule import weight_decay_groups
from geores.vqa.answers import AnswerVocabulary
from geores.vqa.comparison import Majority, fitting, forms_of
from geores.vqa.model import VQAModel

if TYPE_CHECKING:
    from geores.datasets import RSVQA

__all__ = ['VQAEvaluator', 'answer_without_images']

FOLDS = 5
"""Folds over images by which the baselines are fitted to the other images if there is no training part."""

Lessons = tuple[list[str], list[str], list[str]]
"""Texts, types and answers of the questions that the baselines are fitted to."""

# Training of the question-only model, as `configs/vqa-aerial.yaml` trains the head.
BATCH = 256
EPOCHS = 80
STEPS = 1200
"""Most steps; one epoch is always completed."""
RATE, DECAY = 4e-3, 0.02
CATEGORIES = 100
"""Most categories of objects that the model tells apart: the most frequent ones."""


class _Images(Dataset[Tensor]):
    """Images of a dataset of questions."""

    def __init__(self, dataset: 'RSVQA', numbers: Sequence[int]) -> None:
        self.dataset, self.numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Tensor:
        return self.dataset.image(self.numbers[index])


@dataclass(frozen=True)
class VQAEvaluator:
    """A VQA evaluation that is checked and ready to run; `prepare` makes it."""

    model: VQAModel
    asked: EvaluationQuestions
    batch_size: int
    precision: Precision
    workers: int
    replicates: int
    seed: int
    provenance: Mapping[str, Any]

    @classmethod
    def prepare(
        cls,
        model: VQAModel,
        data: Folders,
        *,
        split: str = 'all',
        train: Folders | None = None,
        ignore_unknown: bool = False,
        batch_size: int = 32,
        precision: str = 'fp32',
        workers: int = 0,
        bootstrap: int = 1000,
        seed: int = 0,
        **others: Any,  # noqa: ANN401 - options of evaluations of labels
    ) -> Self:
        """Find questions, answers and images, and the training data of the baselines.

        Args:
            model: the loaded model.
            data: one folder in a layout of RSVQA, or several.
            split: 'all', 'train', 'val', 'test' or 'test_phili', as of `find_questions`.
            train: folders that the majority and the question-only model are fitted to. None takes the
                training part if `split` leaves one, else the other evaluated images, by folds.
            ignore_unknown: leave out question types that the model has no answers to.
            batch_size: images in one forward pass.
            precision: precision of the encoder: 'auto', 'fp32', 'bf16' or 'fp16'.
            workers: processes that read images beside this one.
            bootstrap: bootstrap replicates for confidence intervals; 0 gives no intervals.
            seed: seed of the bootstrap and of the question-only model.
            **others: refused where they are set.

        Raises:
            UsageError: if something given cannot be used.
        """
        given = [name for name, value in others.items() if value is not None and value not in ({}, '')]
        if given:
            raise UsageError(
                f'{given[0]} goes with models that give labels, and {model.name} answers questions'
            )
        on_cuda = model.device.type == 'cuda'
        wanted = check_precision(model, precision)
        chosen: Precision = ('fp16' if on_cuda else 'fp32') if wanted == 'auto' else wanted
        asked = find_questions(model.card, data, split, train, ignore_unknown=ignore_unknown)
        images = len({int(asked.dataset.image_numbers[index]) for index in asked.questions})
        provenance: dict[str, Any] = {
            'model': model.card.name,
            'model_sha256': model.card.sha256,
            'licence_of_weights': model.card.licence,
            'geores_version': version('geores'),
            'data': _named(data),
            'split': split,
            'train': None if train is None else _named(train),
            'answers': asked.dataset.encoding.name,
            'images': images,
            'questions': len(asked.questions),
            'baselines_learnt_from': asked.taught_by,
            'device': str(model.device),
            'precision': chosen,
        }
        if bootstrap:
            provenance |= {'bootstrap': {'replicates': bootstrap, 'seed': seed, 'over': 'images'}}
        return cls(model, asked, batch_size, chosen, workers, bootstrap, seed, provenance)

    def check_output(self, folder: Path, *, overwrite: bool) -> None:
        """Check that results can be written, before any work is done.

        Args:
            folder: folder to write to.
            overwrite: whether files may be replaced.

        Raises:
            OutputError: if a file exists, or the folder cannot be written.
        """
        check_answer_files(folder, self.model.name, overwrite=overwrite)

    def run(self, progress: Callable[[int, int], None] | None = None) -> VQAEvaluation:
        """Answer all questions; each image is encoded once.

        Args:
            progress: called with the number of images just done and of all images.

        Raises:
            DatasetError: if an image cannot be read.
        """
        frame = self._frame()
        answers = self._answers(progress)
        frame['predicted'] = [answers[index][0] for index in self.asked.questions]
        frame['probability'] = np.array([answers[index][1] for index in self.asked.questions], np.float32)
        unknown = int((~frame['known']).sum())
        notes = (
            f'majority and question-only model have learnt from {self.asked.taught_by}',
            *self.asked.notes,
        )
        if unknown:
            notes += (
                f'{unknown:,} questions have an answer that the training of {self.model.name} never gave: '
                'they count, as wrong',
            )
        return VQAEvaluation(
            card=self.model.card,
            predictions=frame,
            taught_by=self.asked.taught_by,
            provenance=self.provenance,
            notes=notes,
            warnings=self.asked.warnings,
            replicates=self.replicates,
            seed=self.seed,
        )

    def _frame(self) -> pd.DataFrame:
        """Questions with their true answers, and the answers of the image-blind baselines."""
        data, chosen = self.asked.dataset, self.asked.questions
        known = set(self.model.card.labels[1:])
        texts, types, answers = _lessons(data, chosen)
        images = [data.image_ids[data.image_numbers[index]] for index in chosen]
        majority, question_only = self._baselines(texts, types, images)
        return pd.DataFrame({
            'id': [data.ids[index] for index in chosen],
            'image': images,
            'source': [data.sources[index] for index in chosen],
            'type': types,
            'question': texts,
            'raw_answer': [data.questions[index].answer for index in chosen],
            'answer': answers,
            'known': [answer in known for answer in answers],
            'majority': majority,
            'question_only': question_only,
        })  # fmt: skip

    def _baselines(
        self, texts: list[str], types: list[str], images: list[str]
    ) -> tuple[list[str], list[str]]:
        if self.asked.lessons is not None:
            return self._say(_lessons(*self.asked.lessons), texts, types)
        from sklearn.model_selection import GroupKFold

        data, chosen = self.asked.dataset, self.asked.questions
        lessons = _lessons(data, chosen)
        said = [''] * len(texts), [''] * len(texts)
        folds = GroupKFold(min(FOLDS, len(set(images))))
        for others, kept in folds.split(texts, groups=images):
            taught = cast('Lessons', tuple([part[place] for place in others] for part in lessons))
            found = self._say(taught, [texts[place] for place in kept], [types[place] for place in kept])
            for column, answers in zip(said, found, strict=True):
                for place, answer in zip(kept, answers, strict=True):
                    column[place] = answer
        return said

    def _say(self, lessons: Lessons, texts: list[str], types: list[str]) -> tuple[list[str], list[str]]:
        return (
            Majority.of(*lessons).answer(texts, types),
            answer_without_images(*lessons, texts, types, self.seed),
        )

    def _answers(self, progress: Callable[[int, int], None] | None) -> dict[int, tuple[str, float]]:
        """Predicted answer and its probability per question, by the question's position."""
        data, model = self.asked.dataset, self.model
        asked: dict[int, list[int]] = {}
        for index in self.asked.questions:
            asked.setdefault(int(data.image_numbers[index]), []).append(index)
        numbers = list(asked)
        loader = DataLoader(_Images(data, numbers), self.batch_size, num_workers=self.workers)
        answers: dict[int, tuple[str, float]] = {}
        done = 0
        for images in loader:
            for number, features in zip(numbers[done : done + len(images)], self._look(images), strict=True):
                texts = [data.questions[index].text for index in asked[number]]
                scores, best = model.probabilities(features[None], texts)[0].max(1)
                said = [model.card.labels[place] for place in best.tolist()]
                answers.update(zip(asked[number], zip(said, scores.tolist(), strict=True), strict=True))
            done += len(images)
            if progress is not None:
                progress(len(images), len(numbers))
        return answers

    def _look(self, images: Tensor) -> Tensor:
        dtype = DTYPES[self.precision]
        with torch.autocast(self.model.device.type, dtype, enabled=dtype != torch.float32):
            return self.model.encode(images, self.batch_size).float()


def _lessons(data: 'RSVQA', questions: Sequence[int]) -> Lessons:
    """Texts, types and answers of questions."""
    return (
        [data.questions[index].text for index in questions],
        [data.question_types[index] for index in questions],
        [data.answers[index] for index in questions],
    )


def _named(folders: Folders) -> list[str]:
    paths = [folders] if isinstance(folders, (str, PathLike)) else folders
    return [fspath(path) for path in paths]


def answer_without_images(
    questions: Sequence[str],
    types: Sequence[str],
    answers: Sequence[str],
    asked: Sequence[str],
    kinds: Sequence[str],
    seed: int = 0,
) -> list[str]:
    """Answer questions with a model that was trained on questions alone.

    The model is the head of `vqa-factors`, which encodes the parts of a question, with zeros in place of
    image features. Questions that the grammar does not parse get the most frequent answer.

    Args:
        questions: training questions.
        types: type of each training question.
        answers: encoded answer to each training question.
        asked: questions to answer.
        kinds: type of each question to answer.
        seed: seed of weights and batches.

    Returns:
        One answer per question of `asked`.

    Raises:
        UsageError: if there are no training questions.
    """
    said = Majority.of(questions, types, answers).answer(asked, kinds)
    texts = sorted({*questions, *asked})  # each is parsed once, however often it is asked
    forms = dict(zip(texts, forms_of(texts), strict=True))
    parsed = [place for place, text in enumerate(asked) if forms[text] is not None]
    learnt = [place for place, text in enumerate(questions) if forms[text] is not None]
    if not parsed or not learnt:
        return said
    vocabulary = AnswerVocabulary.from_training(answers[place] for place in learnt)
    target = torch.tensor(vocabulary.indices(answers[place] for place in learnt))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = _head([questions[place] for place in learnt], len(vocabulary))
        _train(head, *_read(head, [questions[place] for place in learnt]), target)
    rows, index = _read(head, [asked[place] for place in parsed])
    with torch.inference_mode():
        logits = torch.cat([_decide(head, part) for part in rows.split(BATCH)])[index]
    logits = logits.masked_fill(
        ~fitting(vocabulary.answers, [forms[asked[place]] for place in parsed]), -torch.inf
    )
    for place, best in zip(parsed, logits.argmax(1).tolist(), strict=True):
        said[place] = vocabulary[best]
    return said


def _head(questions: Sequence[str], answers: int) -> FactorHead:
    parts = [part.category for form in forms_of(questions) if form is not None for part in form.parts()]
    names = [name for name, _ in Counter(sorted(parts)).most_common(CATEGORIES)]
    return FactorHead(1, 1, 1, answers, names or ['object'], components=1, noise=0.0)


def _read(head: FactorHead, questions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Encoded parts of each distinct question, and the index of each question among these."""
    texts, index = np.unique(np.asarray(questions, object), return_inverse=True)
    forms = forms_of(texts.tolist())
    empty = torch.zeros(len(texts), 1, dtype=torch.int64)
    return head.read(empty, empty[:, 0], forms), torch.from_numpy(index)


def _decide(head: FactorHead, rows: torch.Tensor) -> torch.Tensor:
    return head.decide(rows.new_zeros(len(rows), 1), rows)


def _train(head: FactorHead, rows: torch.Tensor, index: torch.Tensor, target: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(weight_decay_groups(head.parameters(), DECAY), lr=RATE)
    epoch = -(-len(target) // BATCH)
    steps = max(min(EPOCHS * epoch, STEPS), epoch)
    # A schedule of its own: that of `geores.tasks.schedule` would change all results.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.3, cycle_momentum=False
    )
    head.train()
    order: list[torch.Tensor] = []  # batches that are left of the epoch
    for _ in range(steps):
        order = order or list(torch.randperm(len(target)).split(BATCH))
        batch = order.pop()
        optimizer.zero_grad()
        functional.cross_entropy(_decide(head, rows[index[batch]]), target[batch]).backward()
        optimizer.step()
        schedule.step()
    head.eval()
