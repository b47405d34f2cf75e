"""What a recurrent network that reads the question alone answers, beside the bundles' question-only twins.

    python benchmarks/vqa_recurrent.py RSVQA-LR --variant lr
    python benchmarks/vqa_recurrent.py RSVQA-HR rsvqa-hr --variant hr

The folds by location are those of `configs/vqa-sentinel2.yaml` and `configs/vqa-aerial.yaml`. The network, a
bidirectional GRU over words with the mean of its states, knows no grammar; only which answers fit a question
is told to it as it is to the twins. It has one setting, taken for its speed: a wider network was scored on
the first LR fold alone (0.793, where this one has 0.779).
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.datasets import RSVQADataModule
from geores.models.text import RecurrentText
from geores.vqa.answers import AnswerVocabulary
from geores.vqa.comparison import Majority, fitting, forms_of
from geores.vqa.network import Tokenizer

EPOCHS = 16
BATCH, RATE, DECAY, DROPOUT = 128, 3e-3, 0.02, 0.3
WIDTH = 128


class Asked:
    """Questions of some images, as text.

    Args:
        data: where they are from.
        images: numbers of the images.
    """

    def __init__(self, data: RSVQADataModule, images: Sequence[int]) -> None:
        rows = data.questions(images)
        self.texts = [data.dataset.questions[row].text for row in rows]
        self.kinds = [data.dataset.question_types[row] for row in rows]
        self.answers = [data.dataset.answers[row] for row in rows]


class Reader(nn.Module):
    """Words to answers.

    Args:
        words: number of tokens.
        answers: number of answers.
    """

    def __init__(self, words: int, answers: int) -> None:
        super().__init__()
        self.text = RecurrentText(
            words, WIDTH, WIDTH // 2, bidirectional=True, pooling='mean', dropout=DROPOUT
        )
        self.head = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(self.text.out_features, answers))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits of answers, (Q, K)."""
        found: Tensor = self.head(self.text(tokens, lengths))
        return found


def answered(taught: Asked, asked: Asked, seed: int) -> list[str]:
    """Answers of a network that was trained on other questions."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_questions(taught.texts)
    vocabulary = AnswerVocabulary.from_training(taught.answers)
    target = torch.tensor(vocabulary.indices(taught.answers))
    network = Reader(len(tokenizer), len(vocabulary))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(target) // BATCH)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1, cycle_momentum=False)
    tokens, lengths = tokenizer(taught.texts)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(target)).split(BATCH):
            loss = functional.cross_entropy(network(tokens[rows], lengths[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    network.eval()
    texts = sorted(set(asked.texts))
    with torch.inference_mode():
        logits = network(*tokenizer(texts))
    logits = logits.masked_fill(~fitting(vocabulary.answers, forms_of(texts)), -torch.inf)
    said = dict(zip(texts, (vocabulary[best] for best in logits.argmax(1).tolist()), strict=True))
    return [said[text] for text in asked.texts]


def right(asked: Asked, said: Sequence[str]) -> float:
    """Share of questions answered as the ground truth has it."""
    return float(np.mean([one == other for one, other in zip(asked.answers, said, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('roots', nargs='+')
    parser.add_argument('--variant', choices=('lr', 'hr'), required=True)
    parser.add_argument(
        '--split', choices=('location', 'image'), default='location', help='what folds keep together'
    )
    parser.add_argument('--folds', type=int, default=5)
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    hits: dict[str, dict[str, list[bool]]] = {'majority': defaultdict(list), 'recurrent': defaultdict(list)}
    found = []
    for fold in range(1, args.folds + 1):
        data = RSVQADataModule(args.roots, args.variant, split=args.split, folds=args.folds, fold=fold)
        taught, asked = Asked(data, data.split.train), Asked(data, data.split.val)
        given = {
            'majority': Majority.of(taught.texts, taught.kinds, taught.answers).answer(
                asked.texts, asked.kinds
            ),
            'recurrent': answered(taught, asked, args.seed),
        }
        found.append(right(asked, given['recurrent']))
        for name, said in given.items():
            for kind, answer, one in zip(asked.kinds, asked.answers, said, strict=True):
                hits[name][kind].append(answer == one)
        print(f'fold {fold}: {found[-1]:.4f} of {len(asked.texts):,}', flush=True)
    for name, kinds in hits.items():
        every = [one for part in kinds.values() for one in part]
        each = {kind: float(np.mean(part)) for kind, part in sorted(kinds.items())}
        print(name, {kind: round(value, 3) for kind, value in each.items()})
        print(f'  mean of types {np.mean(list(each.values())):.4f}, all {np.mean(every):.4f}')
    print(f'recurrent over folds: {np.mean(found):.4f} ± {np.std(found, ddof=1):.4f}')


if __name__ == '__main__':
    main()
