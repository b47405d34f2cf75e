"""Time of a training epoch on RSVQA LR with features encoded in each step and from the cache.

python benchmarks/vqa.py --root <folder of RSVQA LR> [--architecture resnet50] [--batch 70] [--steps 3]

The encoder is frozen. Without a cache each batch of questions encodes its images, as the published code
does for every question; with one the features lie on disk as float16. A few steps are timed of the former,
for an epoch takes long, and a whole epoch of the latter.
"""

import argparse
import json
import tempfile
import time

import torch

from geores.datasets import RSVQADataModule
from geores.tasks import VisualQuestionAnswering

HEAD = {'text_kwargs': {'width': 256}, 'fusion_kwargs': {'width': 1200}}


class Owner:
    """What a task asks of a trainer before fitting."""

    def __init__(self, data: RSVQADataModule, device: torch.device) -> None:
        self.datamodule = data
        self.strategy = type('Strategy', (), {'root_device': device})


def prepared(
    args: argparse.Namespace, cache: str | None
) -> tuple[VisualQuestionAnswering, RSVQADataModule, float]:
    data = RSVQADataModule(args.root, 'lr', split=args.split, by_image=False, batch_size=args.batch)
    task = VisualQuestionAnswering(
        architecture=args.architecture, head_kwargs=HEAD, cache=cache, question_only=False
    )
    device = torch.device(args.device)
    task._trainer = Owner(data, device)
    start = time.perf_counter()
    task.setup('fit')
    data.setup('fit')
    task.log = lambda *_, **__: None
    return task.to(device).train(), data, time.perf_counter() - start


def seconds(
    task: VisualQuestionAnswering, data: RSVQADataModule, steps: int | None = None
) -> tuple[float, int]:
    """Of an epoch, and how many steps were timed; the first step is not."""
    optimizer = torch.optim.Adam(task.network.head.parameters(), 1e-5)
    loader = data.train_dataloader()
    start, done = 0.0, 0
    for number, batch in enumerate(loader):
        if number == 1:
            start = time.perf_counter()
        moved = {
            name: one.to(task.device) if isinstance(one, torch.Tensor) else one for name, one in batch.items()
        }
        optimizer.zero_grad()
        task.training_step(moved, number).backward()
        optimizer.step()
        if task.device.type == 'cuda':
            torch.cuda.synchronize()
        done = number
        if steps is not None and done >= steps:
            break
    return (time.perf_counter() - start) / done * len(loader), done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', required=True)
    parser.add_argument('--split', default='location', help="'official' for the whole release")
    parser.add_argument('--architecture', default='resnet50')
    parser.add_argument('--batch', type=int, default=70, help='questions a batch')
    parser.add_argument('--steps', type=int, default=3, help='steps to time without the cache')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task, data, filling = prepared(args, folder)
        cached, _ = seconds(task, data)
    task, data, _ = prepared(args, None)
    encoded, steps = seconds(task, data, args.steps)
    figures = {
        'architecture': args.architecture,
        'images': len(data.split.train),
        'questions': len(data.questions(data.split.train)),
        'threads': torch.get_num_threads(),
        'device': args.device,
        'fill_s': round(filling, 2),
        'epoch_cached_s': round(cached, 2),
        'epoch_encoded_s': round(encoded, 1),
        'timed_steps': steps,
        'speedup': round(encoded / cached, 1),
    }
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
