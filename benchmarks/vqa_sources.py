"""What a source of questions adds: the same head with and without it, on the same places kept out.

python benchmarks/vqa_sources.py run --config configs/vqa-aerial.yaml --out DIR --root A B [--generated C]
    [--size 512] [--how mixed|light|first] [--seeds 1 2 3] [--set model.head=vqa-fusion ...]
python benchmarks/vqa_sources.py table DIR [DIR...]

`run` trains once a seed, which also draws the places, and writes what majority, question-only twin and model
answered to each validation question. Images of generated questions are encoded once, brought to `--size`,
those of real ones in all eight turns. `table` puts runs side by side, each beside the first: differences on
the same questions, with a standard error whose unit is the image (its questions stand or fall together).
"""

import argparse
import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache as cache_calls
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader, Sampler

from geores.datasets import RSVQADataModule
from geores.models.latents import FactorHead
from geores.tasks import VisualQuestionAnswering
from geores.tasks._vqa_parts import make_cache
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY
from geores.vqa.model import TURNS, FeatureCache

HOW = {
    'mixed': 'all questions in one pool, as `geores train --data.generated` does',
    'light': 'in each epoch one generated question for four real ones, others each time',
    'first': 'generated questions alone for the first third of the epochs, real ones after',
}
Rows = dict[tuple[str, str], dict[str, str]]
WHO = (MAJORITY, QUESTION_ONLY, MODEL)


class Draw(Sampler[list[int]]):
    """Batches of real and generated questions, as many a epoch whatever there is of the latter."""

    def __init__(self, data: 'Sources') -> None:
        train, added = data.split.train, data.added
        self.data = data
        self.real = torch.tensor(data.questions([one for one in train if one not in added]))
        self.more = torch.tensor(data.questions([one for one in train if one in added]))
        self.light = len(self.real) // 4 if data.how == 'light' else 0

    def __len__(self) -> int:
        return -(-(len(self.real) + self.light) // self.data.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        trainer: Any = self.data.trainer
        pool = self.real
        if self.light:
            pool = torch.cat([pool, self._some(self.light)])
        elif trainer.current_epoch < trainer.max_epochs // 3:
            pool = self._some(len(self.real))
        for batch in pool[torch.randperm(len(pool))].split(self.data.batch_size):
            yield batch.tolist()

    def _some(self, count: int) -> torch.Tensor:
        return self.more[torch.randint(len(self.more), (count,))]


class Sources(RSVQADataModule):
    """`RSVQADataModule` with a choice of how generated questions are met."""

    how = 'mixed'
    more: tuple[str, ...] = ()

    @cached_property
    def added(self) -> set[int]:
        """Images of generated questions."""
        return self._of(self.more)

    def train_dataloader(self) -> DataLoader[Any]:
        loader = super().train_dataloader()
        if self.how == 'mixed' or not self.more:
            return loader
        return DataLoader(loader.dataset, batch_size=None, sampler=Draw(self))


class Task(VisualQuestionAnswering):
    """The task with features of each folder from a cache of its own."""

    folder: Path
    more_size: int | None = None
    prepared: str = 'all'

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data: Any = self.trainer.datamodule
        real = Sources(data.roots + [one for one in data.generated if one not in data.more], data.variant)
        real.turning = data.turning
        self.parts = [self._cached(real)]
        for one in data.more:
            self.parts.append(self._cached(Sources(one, data.variant, size=self.more_size)))
        self.cache = self._features

    def _cached(self, data: Sources) -> tuple[FeatureCache, int]:
        mean, std = self.mean.cpu(), self.std.cpu()
        cache = make_cache(self.folder, self.network.encoder, mean, std, data, torch.device('cpu'))
        return cache, len(data.dataset.entries)

    def _features(self, numbers: torch.Tensor, turns: torch.Tensor | None = None) -> torch.Tensor:
        found, start = [], 0
        order = torch.arange(len(numbers))
        places = []
        for place, (cache, count) in enumerate(self.parts):
            mine = (numbers >= start) & (numbers < start + count)
            turned = None if place or turns is None else turns[mine]
            found.append(cache(numbers[mine] - start, turned))
            places.append(order[mine])
            start += count
        return torch.cat(found)[torch.cat(places).argsort()]

    def on_fit_start(self) -> None:
        """What `vqa-factors` sees of each image is computed once: nothing of its `look` is trained."""
        data: Any = self.trainer.datamodule
        unseen = data.unseen
        if self.prepared == 'real':
            data.unseen = unseen | data.added
        super().on_fit_start()
        data.unseen = unseen
        head: Any = self.network.head
        if type(head) is not FactorHead:
            return
        numbers = torch.arange(sum(count for _, count in self.parts))
        turns = range(TURNS if self.trainer.datamodule.turning != 'none' else 1)
        with torch.no_grad():
            seen = torch.stack(
                [torch.cat([head.look(self._features(some, torch.full_like(some, turn)))
                            for some in numbers.split(64)]) for turn in turns]
            )  # fmt: skip
        self.cache = lambda some, turn=None: seen[0 if turn is None else turn, some]
        for one in (head, self.question_only):
            one.look, one._parts = lambda rows: rows, cache_calls(type(one)._parts.__get__(one))


def configured(args: argparse.Namespace, seed: int) -> tuple[Sources, Task, Trainer]:
    """Data, task and trainer of a configuration with what is set on top."""
    config = yaml.safe_load(args.config.read_text())
    parts = {
        'data': config['data']['init_args'] | {'root': args.root, 'seed': seed, 'with_images': False},
        'model': config['model']['init_args'] | {'cache': None},
        'trainer': config['trainer'],
    }
    for text in args.set:
        path, _, value = text.partition('=')
        *keys, last = path.split('.')
        inner = parts
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = yaml.safe_load(value)
    quiet = dict.fromkeys(('logger', 'enable_checkpointing', 'enable_progress_bar'), False)
    trainer = Trainer(**parts['trainer'] | quiet, enable_model_summary=False)
    parts['data']['generated'] = [*(parts['data'].get('generated') or []), *args.generated]
    return Sources(**parts['data']), Task(**parts['model']), trainer


def answered(task: VisualQuestionAnswering, data: Sources) -> list[dict[str, str]]:
    """What each said to the questions of the last validation."""
    kept, texts = task.predictions, data.dataset.questions
    place = {name: number for number, name in enumerate(data.dataset.ids)}
    numbers = [place[name] for name in kept._ids]
    types = [data.dataset.question_types[one] for one in numbers]
    said = {MAJORITY: kept._majority.answer([texts[one].text for one in numbers], types)}
    for who in (QUESTION_ONLY, MODEL):
        if not kept._logits[who]:
            said[who] = [''] * len(numbers)  # no twin was trained
            continue
        best = torch.cat(kept._logits[who]).argmax(1).tolist()
        said[who] = [kept.labels[one] for one in best]
    images = [data.dataset.image_ids[data.dataset.image_numbers[one]] for one in numbers]
    rows = zip(kept._ids, images, types, kept.answers, *said.values(), strict=True)
    return [dict(zip(('id', 'image', 'type', 'answer', *said), row, strict=True)) for row in rows]


def run(args: argparse.Namespace) -> None:
    Sources.how, Sources.more = args.how, tuple(args.generated)
    Task.folder, Task.more_size, Task.prepared = args.cache, args.size, args.prepare
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        seed_everything(seed, verbose=False)
        data, task, trainer = configured(args, seed)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            trainer.fit(task, data)
        rows = answered(task, data)
        (args.out / f'{seed}.json').write_text(json.dumps(rows))
        right = {who: sum(row[who] == row['answer'] for row in rows) / len(rows) for who in WHO}
        print(args.out.name, seed, len(rows), {who: round(one, 4) for who, one in right.items()}, flush=True)


def read(folder: Path) -> Rows:
    """(Seed, question) -> row."""
    found = sorted(folder.glob('*.json'))
    return {(path.stem, row['id']): row for path in found for row in json.loads(path.read_text())}


def share(rows: list[tuple[str, str, float]]) -> str:
    """Mean and standard deviation over seeds, of (seed, image, value)."""
    seeds = defaultdict(list)
    for seed, _, value in rows:
        seeds[seed].append(value)
    means = torch.tensor([sum(one) / len(one) for one in seeds.values()], dtype=torch.float64)
    return f'{means.mean():.3f} ± {means.std(correction=0):.3f}'


def difference(rows: list[tuple[str, str, float]]) -> str:
    """Mean and standard error in points, of (seed, image, value), by images."""
    mean = sum(value for *_, value in rows) / len(rows)
    images: dict[str, float] = defaultdict(float)
    for _, image, value in rows:
        images[image] += value - mean
    many = len(images)
    error = math.sqrt(sum(one**2 for one in images.values()) * many / max(many - 1, 1)) / len(rows)
    return f'{100 * mean:+.1f} ± {100 * error:.1f}'


def scored(rows: Rows, keys: Sequence[tuple[str, str]], who: str) -> list[tuple[str, str, float]]:
    """(Seed, image, right or wrong) of some questions."""
    found = [(key[0], rows[key]) for key in keys]
    return [(seed, row['image'], float(row[who] == row['answer'])) for seed, row in found]


def less(ones: list[tuple[str, str, float]], others: list[tuple[str, str, float]]) -> str:
    """Difference on the same questions."""
    pairs = zip(ones, others, strict=True)
    return difference([(seed, image, value - other[2]) for (seed, image, value), other in pairs])


def table(folders: list[Path]) -> None:
    runs = {folder.name: read(folder) for folder in folders}
    name, first = next(iter(runs.items()))
    common = [key for key in first if all(key in rows for rows in runs.values())]
    for kind in [*sorted({row['type'] for row in first.values()}), 'all']:
        keys = [key for key in common if kind in {first[key]['type'], 'all'}]
        print(f'| {kind} | accuracy (question-only) | with less without image | less {name} |')
        print('|---|---|---|---|')
        print(f'| majority ({len(keys):,}) | {share(scored(first, keys, MAJORITY))} | | |')
        base = scored(first, keys, MODEL)
        for title, rows in runs.items():
            model, blind = scored(rows, keys, MODEL), scored(rows, keys, QUESTION_ONLY)
            gain = '' if rows is first else less(model, base)
            print(f'| {title} | {share(model)} ({share(blind)}) | {less(model, blind)} | {gain} |')
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    one = commands.add_parser('run')
    one.add_argument('--config', type=Path, required=True)
    one.add_argument('--out', type=Path, required=True, help='folder for the answers')
    one.add_argument('--root', nargs='+', required=True)
    one.add_argument('--generated', nargs='+', default=[])
    one.add_argument('--size', type=int, help='height and width of images of generated questions')
    one.add_argument('--prepare', choices=('all', 'real'), default='all', help='images that heads learn of')
    one.add_argument('--cache', type=Path, default=Path('runs/features'))
    one.add_argument(
        '--how', choices=HOW, default='mixed', help='; '.join(f'{k}: {v}' for k, v in HOW.items())
    )
    one.add_argument('--seeds', nargs='+', type=int, default=[1, 2, 3])
    one.add_argument('--set', action='append', default=[], metavar='PART.NAME=VALUE')
    two = commands.add_parser('table')
    two.add_argument('folders', nargs='+', type=Path)
    args = parser.parse_args()
    run(args) if args.command == 'run' else table(args.folders)


if __name__ == '__main__':
    main()
