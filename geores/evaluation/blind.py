"""Baselines that see no image: the most frequent answers, and a model trained on questions alone.

What they get right needs no image, so a figure of visual question answering means little without them (Lobry
et al. 2020).
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from geores.metrics.vqa import majority_baseline
from geores.models.latents import FactorHead
from geores.tasks.schedule import weight_decay_groups
from geores.vqa.answers import AnswerVocabulary
from geores.vqa.comparison import Majority, fitting, forms_of

if TYPE_CHECKING:
    from geores.datasets import RSVQA

__all__ = ['answer_blindly', 'answer_without_images']

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


def answer_blindly(
    dataset: 'RSVQA', questions: Sequence[int], lessons: 'tuple[RSVQA, list[int]] | None', seed: int = 0
) -> pd.DataFrame:
    """Answer questions of a dataset without their images, beside the ground truth.

    Args:
        dataset: dataset of the questions.
        questions: positions of the questions.
        lessons: a dataset and positions in it, which the baselines are fitted to; None fits them to the
            questions on the other images, by folds of images.
        seed: seed of the question-only model.

    Returns:
        One row per question: `id`, `image`, `source`, `type`, `question`, `raw_answer`, `answer` (encoded),
        and the answers of the baselines: `majority_of_type` (most frequent answer of the question's type),
        `majority` (of the question's text, of its type where training lacks the text), `question_only`.
    """
    texts, types, answers = _lessons(dataset, questions)
    images = [dataset.image_ids[dataset.image_numbers[index]] for index in questions]
    columns = ('majority_of_type', 'majority', 'question_only')
    said = {name: [''] * len(texts) for name in columns}
    for taught, places in _folds(dataset, questions, images, lessons):
        asked = [texts[place] for place in places], [types[place] for place in places]
        found = (
            majority_baseline(taught[2], taught[1], asked[1]),
            Majority.of(*taught).answer(*asked),
            answer_without_images(*taught, *asked, seed),
        )
        for name, given in zip(columns, found, strict=True):
            for place, answer in zip(places, given, strict=True):
                said[name][place] = answer
    return pd.DataFrame({
        'id': [dataset.ids[index] for index in questions],
        'image': images,
        'source': [dataset.sources[index] for index in questions],
        'type': types,
        'question': texts,
        'raw_answer': [dataset.questions[index].answer for index in questions],
        'answer': answers,
        **said,
    })  # fmt: skip


def _folds(
    dataset: 'RSVQA',
    questions: Sequence[int],
    images: Sequence[str],
    lessons: 'tuple[RSVQA, list[int]] | None',
) -> list[tuple[Lessons, Sequence[int]]]:
    """Training questions, and the places of the questions that are answered after them."""
    if lessons is not None:
        return [(_lessons(*lessons), range(len(questions)))]
    from sklearn.model_selection import GroupKFold

    told = _lessons(dataset, questions)
    folds = GroupKFold(min(FOLDS, len(set(images))))
    return [
        (cast('Lessons', tuple([part[place] for place in others] for part in told)), kept.tolist())
        for others, kept in folds.split(questions, groups=images)
    ]


def _lessons(data: 'RSVQA', questions: Sequence[int]) -> Lessons:
    """Texts, types and answers of questions."""
    return (
        [data.questions[index].text for index in questions],
        [data.question_types[index] for index in questions],
        [data.answers[index] for index in questions],
    )


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
