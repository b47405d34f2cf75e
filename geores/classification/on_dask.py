"""Shards of a classification on the workers of a dask cluster, merged where the last of them is done.

All workers have to see the scenes and the folder of results under the same paths. A worker that is lost costs
its shard: another one continues what it left in the journal.
"""

import logging
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from geores.classification.classify import SceneOutcome, classify_many
from geores.classification.merge import merge
from geores.classification.shards import read_commands
from geores.errors import UsageError, import_extra

__all__ = ['classify_on_dask']

SHARDS_A_WORKER = 4
"""So that quick workers do more of them, and a lost one costs little."""

WAIT = 30
"""Seconds in which a scheduler has to answer, and a worker to be there."""

_logger = logging.getLogger(__name__)


def classify_on_dask(
    cluster: Any,  # noqa: ANN401 - an address or a `distributed.Client`
    scenes: list[str],
    model: str = 'auto',
    *,
    out: Path,
    **how: Any,  # noqa: ANN401 - checked by name and value
) -> Generator[SceneOutcome, None, None]:
    """Classify scenes on a cluster of dask.

    Args:
        cluster: address of its scheduler, or a client of it.
        scenes: paths, as all workers see them.
        model: name or path.
        out: folder for the results, as all workers see it.
        **how: as `geores.classify_many` takes it; `shard` and `watch` not.

    Returns:
        A generator of one outcome per scene, as `geores.merge` gives them.

    Raises:
        UsageError: if there is no such cluster, or it has no workers.
        GeoresError: if a shard failed; what is computed is kept.
    """
    distributed = import_extra('distributed')
    try:
        owned = isinstance(cluster, str)
        client = distributed.Client(cluster, timeout=WAIT, set_as_default=False) if owned else cluster
    except (OSError, ValueError) as error:
        raise UsageError(f'no scheduler of dask answers at {cluster}: {error}') from error
    with client if owned else nullcontext():
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError as error:
            raise UsageError(f'the cluster of dask at {cluster} has no workers') from error
        # Another number of workers than before continues the shards that there are.
        held = {} if how.get('overwrite') else read_commands(out)
        count = next(iter(held)).count if held else SHARDS_A_WORKER * len(client.scheduler_info()['workers'])
        shards = [f'{number}/{count}' for number in range(1, count + 1)]
        futures = client.map(_compute, shards, scenes=scenes, model=model, out=out, how=how, pure=False)
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                shard, tiles = future.result()
                _logger.info(f'shard {shard} is done: {tiles:,} tiles')
        except distributed.scheduler.KilledWorker as error:
            raise UsageError(f'workers of dask were lost again and again: {error}') from error
        finally:
            client.cancel(futures)
    yield from merge(out, overwrite=bool(how.get('overwrite')))


def _compute(shard: str, scenes: list[str], model: str, out: Path, how: dict[str, Any]) -> tuple[str, int]:
    """Compute a shard, on a worker."""
    outcomes = classify_many(scenes, model, out=out, shard=shard, **how)
    return shard, sum(outcome.share.tiles for outcome in outcomes if outcome.share is not None)
