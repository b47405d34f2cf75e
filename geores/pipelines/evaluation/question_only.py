"""A model that sees the question alone: what one gets right without looking at an image."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from geores.models.factors import FactorHead
from geores.vqa.answers import AnswerVocabulary
from geores.vqa.comparison import Majority
from geores.vqa.kinds import fitting, forms_of

__all__ = ['answer_without_images']

BATCH = 256
EPOCHS = 80
STEPS = 1200
"""Most steps, but for one epoch: more questions than that many batches hold need no second look."""
RATE, DECAY = 4e-3, 0.02
CATEGORIES = 100


def answer_without_images(
    questions: Sequence[str],
    types: Sequence[str],
    answers: Sequence[str],
    asked: Sequence[str],
    kinds: Sequence[str],
    seed: int = 0,
) -> list[str]:
    """Answer questions by what questions alone teach.

    The head of `vqa-factors`, which knows a question by its parts, with zeros in place of an image, trained
    as `configs/vqa-aerial.yaml` trains it. What the grammar does not parse is answered by the majority.

    Args:
        questions: To learn from.
        types: Kind of each.
        answers: Of each, encoded.
        asked: Questions to answer.
        kinds: Kind of each of them.
        seed: Of weights and batches.

    Returns:
        An answer a question of `asked`.

    Raises:
        UsageError: There is nothing to learn from.
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
    """Parts of each different question, and which of them each question is."""
    texts, index = np.unique(np.asarray(questions, object), return_inverse=True)
    forms = forms_of(texts.tolist())
    empty = torch.zeros(len(texts), 1, dtype=torch.int64)
    return head.read(empty, empty[:, 0], forms), torch.from_numpy(index)


def _decide(head: FactorHead, rows: torch.Tensor) -> torch.Tensor:
    return head.decide(rows.new_zeros(len(rows), 1), rows)


def _train(head: FactorHead, rows: torch.Tensor, index: torch.Tensor, target: torch.Tensor) -> None:
    parts = {True: [], False: []}  # type: dict[bool, list[torch.nn.Parameter]]
    for part in head.parameters():
        parts[part.ndim > 1].append(part)
    optimizer = torch.optim.AdamW(
        [{'params': parts[True], 'weight_decay': DECAY}, {'params': parts[False], 'weight_decay': 0.0}],
        lr=RATE,
    )
    epoch = -(-len(target) // BATCH)
    steps = max(min(EPOCHS * epoch, STEPS), epoch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.3, cycle_momentum=False
    )
    head.train()
    order: list[torch.Tensor] = []
    for _ in range(steps):
        order = order or list(torch.randperm(len(target)).split(BATCH))
        batch = order.pop()
        optimizer.zero_grad()
        functional.cross_entropy(_decide(head, rows[index[batch]]), target[batch]).backward()
        optimizer.step()
        schedule.step()
    head.eval()
