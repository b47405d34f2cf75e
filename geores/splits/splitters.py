"""Cross-validation splits: grouped and stratified folds, and geographic splitters for scikit-learn.

The splitters follow scikit-learn's protocol and go wherever it takes `cv`, such as in
`cross_val_score(model, features, y, cv=GeographicKFold(...))`. As scikit-learn passes on features, labels and
groups only, positions are given to the splitter, or are passed as `X`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from geores.errors import DatasetError
from geores.splits.assignment import assign_groups, assign_rows, hash_order
from geores.splits.buffer import Lonlat, Positions, check_buffer, lonlat, near
from geores.splits.geographic import Groups, Method, ground_groups, row_names
from geores.splits.stratified import Split, check_ids, digest, label_matrix, split_name

__all__ = [
    'GeographicKFold',
    'LeaveOneRegionOut',
    'group_folds',
]

Fold: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]


def group_folds(
    ids: Sequence[str], strata: Sequence[str], groups: Sequence[int], folds: int, seed: int
) -> list[Split]:
    """Make splits for cross-validation that keep groups whole and balance strata.

    Each sample is kept for validation once. Samples are first put in the order of a hash of seed and id, so
    that folds depend neither on the machine nor on the order of the samples.

    Args:
        ids: unique ids of the samples.
        strata: stratum of each sample, such as its class; folds are balanced by it.
        groups: samples of one group, such as near duplicates, stay in one fold.
        folds: number of folds, at least 2.
        seed: random seed.

    Returns:
        One split per fold. Its id contains fold, seed and a hash of the samples kept for validation.

    Raises:
        DatasetError: if ids are not unique, or groups are too few for so many folds.
    """
    check_ids(ids)
    if folds < 2:
        raise DatasetError(f'folds have to be 2 or more, not {folds}')
    if len(set(groups)) < folds:
        raise DatasetError(f'{len(set(groups))} groups of samples are too few for {folds} folds')
    order = np.array(sorted(range(len(ids)), key=lambda index: digest(f'{seed}:{ids[index]}')))
    _, kinds, counts = np.unique(np.asarray(strata)[order], return_inverse=True, return_counts=True)
    # Strata with fewer samples than folds are merged with the most frequent stratum.
    kinds = np.where(counts[kinds] < folds, counts.argmax(), kinds)
    # Renumber groups in the hash order: their own numbers may depend on the order of the samples.
    _, firsts, inverse = np.unique(np.asarray(groups)[order], return_index=True, return_inverse=True)
    members = firsts[inverse]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    splits = []
    for number, (train, val) in enumerate(splitter.split(order, kinds, members), 1):
        kept = sorted(order[val].tolist())
        title = f'fold{number}of{folds}-seed{seed}'
        splits.append(Split(sorted(order[train].tolist()), kept, split_name(title, ids, kept)))
    return splits


class GeographicKFold:
    """K folds of whole blocks, hexagons, clusters or regions of ground; each row is tested once.

    Training rows within the buffer of a test row are left out of that fold.

    Args:
        n_splits: number of folds, at least 2.
        method: as in `geographic_split`; 'regions' takes `groups` of `split` as names.
        block_size: side of a block, or distance between hexagon centres, in metres.
        block_crs: projected CRS of the block grid.
        cluster_count: number of clusters.
        buffer: minimum distance between the centres of training and test rows, in metres.
        seed: random seed.
        stratify: whether folds should hold about as much of each label of `y`.
        positions: positions of the rows; `X` of `split` by default.
    """

    def __init__(
        self,
        n_splits: int = 5,
        method: Method = 'blocks',
        *,
        block_size: float | None = None,
        block_crs: object = None,
        cluster_count: int | None = None,
        buffer: float = 0.0,
        seed: int = 0,
        stratify: bool = True,
        positions: Positions | None = None,
    ) -> None:
        if n_splits < 2:
            raise DatasetError(f'n_splits has to be 2 or more, not {n_splits}')
        self.n_splits = n_splits
        self.method = method
        self.block_size = block_size
        self.block_crs = block_crs
        self.cluster_count = cluster_count
        self.buffer = _length(buffer)
        self.seed = seed
        self.stratify = stratify
        self.positions = positions

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:  # noqa: N803
        """Number of folds.

        Args:
            X: ignored.
            y: ignored.
            groups: ignored.
        """
        return self.n_splits

    def split(
        self,
        X: Positions,  # noqa: N803
        y: Any = None,  # noqa: ANN401
        groups: Sequence[Any] | None = None,
    ) -> Iterator[Fold]:
        """Yield the indices of training and test rows, fold by fold.

        Args:
            X: positions of the rows, unless the splitter knows them; features otherwise.
            y: labels, one or a list of them per row, or (N, K).
            groups: names of regions, for method 'regions'.

        Raises:
            DatasetError: if positions or arguments are invalid, or there are fewer places than folds.
        """
        places = _places(self.positions, X)
        stratified = self.stratify and y is not None
        matrix = label_matrix(y).values if stratified else np.zeros((len(places), 0), bool)
        folds = self._folds(places, matrix, self._groups(places, groups))
        for fold in range(self.n_splits):
            yield _apart(places, np.flatnonzero(folds == fold), np.flatnonzero(folds != fold), self.buffer)

    def _groups(self, places: Lonlat, groups: Sequence[Any] | None) -> Groups | None:
        found = ground_groups(
            places,
            self.method,
            block_size=self.block_size,
            block_crs=self.block_crs,
            cluster_count=self.cluster_count,
            regions=groups,
            seed=self.seed,
        )
        if found is not None and (found[1] < 0).any():
            raise DatasetError('a row has no region: each needs one to be tested once')
        return found

    def _folds(self, places: Lonlat, matrix: NDArray[np.bool_], groups: Groups | None) -> NDArray[np.int8]:
        shares = np.full(self.n_splits, 1 / self.n_splits)
        if groups is None:
            if len(places) < self.n_splits:
                raise DatasetError(f'{len(places)} rows are too few for {self.n_splits} folds')
            return assign_rows(hash_order(row_names(places, matrix, None), self.seed), matrix, shares)
        known, owners = groups
        counts = np.zeros((len(known), 1 + matrix.shape[1]), np.int64)
        np.add.at(counts, owners, np.hstack([np.ones((len(places), 1), np.int64), matrix]))
        return assign_groups(known, counts, shares, self.seed)[owners]


class LeaveOneRegionOut:
    """One fold per region: each region is tested once, and all others train.

    Args:
        buffer: minimum distance between the centres of test and training rows, in metres.
        positions: positions of the rows, for the buffer; `X` of `split` by default.
    """

    def __init__(self, buffer: float = 0.0, *, positions: Positions | None = None) -> None:
        self.buffer = _length(buffer)
        self.positions = positions

    def get_n_splits(self, X: object = None, y: object = None, groups: Sequence[Any] | None = None) -> int:  # noqa: N803
        """Number of regions.

        Args:
            X: ignored.
            y: ignored.
            groups: names of regions.

        Raises:
            DatasetError: if regions are missing.
        """
        return len(self._regions(groups)[0])

    def split(
        self,
        X: Positions,  # noqa: N803
        y: object = None,
        groups: Sequence[Any] | None = None,
    ) -> Iterator[Fold]:
        """Yield the indices of training and test rows, region by region in the order of their names.

        Args:
            X: positions of the rows if there is a buffer, unless the splitter knows them.
            y: ignored.
            groups: names of regions.

        Raises:
            DatasetError: if regions are missing or fewer than two, or positions are invalid.
        """
        known, owners = self._regions(groups)
        places = _places(self.positions, X) if self.buffer else np.zeros((len(owners), 2))
        for region in range(len(known)):
            test, train = np.flatnonzero(owners == region), np.flatnonzero(owners != region)
            yield _apart(places, test, train, self.buffer)

    def _regions(self, groups: Sequence[Any] | None) -> Groups:
        if groups is None:
            raise DatasetError('groups have to name the region of each row')
        found = ground_groups(np.zeros((len(groups), 2)), 'regions', regions=groups)
        if found is None or len(found[0]) < 2 or (found[1] < 0).any():
            raise DatasetError('groups have to name two regions at least, and one for each row')
        return found


def _length(buffer: float) -> float:
    check_buffer(buffer)
    return buffer


def _places(positions: Positions | None, given: Positions) -> Lonlat:
    places = lonlat(given if positions is None else positions)
    if positions is not None and len(places) != len(given):
        raise DatasetError(f'{len(places)} positions are given for {len(given)} rows')
    return places


def _apart(places: Lonlat, test: NDArray[np.int64], train: NDArray[np.int64], buffer: float) -> Fold:
    kept = train[~near(places[train], places[test], buffer)] if buffer else train
    if not len(kept):
        raise DatasetError(f'a buffer of {buffer:g} m leaves none of {len(train):,} rows to train on')
    return kept, test
