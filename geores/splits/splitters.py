"""Cross-validation splits: grouped and stratified folds, and geographic splitters for scikit-learn.

The splitters follow scikit-learn's protocol and go wherever it takes `cv`, such as in
`cross_val_score(model, features, y, cv=GeographicKFold(...))`. As scikit-learn passes on features, labels and
groups only, positions are given to the splitter, or are passed as `X`, or are columns of `X`. In a nested
search the inner splitter sees some of the rows: it knows them by their index or their features, as the outer
one saw them.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from geores.card_values import SplitParameters
from geores.errors import DatasetError
from geores.splits.assignment import assign_groups, assign_rows, hash_order
from geores.splits.buffer import Lonlat, Positions, check_buffer, lonlat, near
from geores.splits.geographic import Groups, Method, ground_groups, row_names
from geores.splits.stratified import MAX_CLASSES, Split, check_ids, digest, label_matrix, split_name

__all__ = ['GeographicKFold', 'LeaveOneRegionOut', 'group_folds']

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
        method = SplitParameters(method='folds', fold=number, folds=folds, seed=seed)
        name = split_name(title, ids, kept)
        splits.append(Split(sorted(order[train].tolist()), kept, name, method=method))
    return splits


def _labels(y: Any) -> NDArray[np.bool_] | None:  # noqa: ANN401
    """Matrix of labels to balance; None without labels, and for the values of a regression."""
    if y is None:
        return None
    try:
        values = np.asarray(y)
    except ValueError:  # lists of labels, of several lengths
        return label_matrix(y).values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind not in 'biuf':
        return label_matrix(list(y) if values.ndim == 1 else values).values
    known = values[np.isfinite(values)] if values.dtype.kind == 'f' else values
    if (known != np.round(known)).any() or (values.ndim == 1 and len(np.unique(known)) > MAX_CLASSES):
        return None
    return label_matrix(values).values


_SEEN: dict[str, dict[Any, list[int]]] = {}
"""Hash of positions -> key of a row of the features that came with them -> its places."""
_MOST_SEEN = 16


class _Located:
    """Finds the positions of rows that are given to a splitter; splitters inherit it.

    Attributes:
        positions: positions of all rows, names of columns, or None.
    """

    positions: Positions | None

    def __getstate__(self) -> dict[str, Any]:
        """Take along what an outer splitter saw, for processes of a search."""
        state = dict(self.__dict__)
        if self.positions is not None and not _are_names(self.positions):
            key = digest(lonlat(self.positions).tobytes().hex())
            state['_seen'] = (key, _SEEN.get(key))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what an outer splitter saw."""
        key, seen = state.pop('_seen', (None, None))
        if seen is not None:
            _SEEN.setdefault(key, seen)
        self.__dict__.update(state)

    def _places(self, given: Any) -> Lonlat:  # noqa: ANN401 - positions or features
        """Positions of the rows that are given, (N, 2)."""
        if self.positions is None:
            return lonlat(given)
        if _are_names(self.positions):
            missing = [name for name in self.positions if name not in getattr(given, 'columns', ())]
            if missing:
                raise DatasetError(f'positions: X has no column {missing[0]!r} with longitudes or latitudes')
            return lonlat(given[list(self.positions)].to_numpy(np.float64))
        places = lonlat(self.positions)
        count = given.shape[0] if hasattr(given, 'shape') else len(given)
        key = digest(places.tobytes().hex())
        if count == len(places):
            while len(_SEEN) >= _MOST_SEEN:
                del _SEEN[next(iter(_SEEN))]
            seen: dict[Any, list[int]] = {}
            for place, row in enumerate(_row_keys(given)):
                seen.setdefault(row, []).append(place)
            _SEEN[key] = seen
            return places
        return places[self._rows(given, count, places, _SEEN.get(key))]

    def _rows(
        self,
        given: Any,  # noqa: ANN401
        count: int,
        places: Lonlat,
        seen: dict[Any, list[int]] | None,
    ) -> NDArray[np.int64]:
        """Places of a part of the rows among all."""
        index = getattr(self.positions, 'index', None)
        labels = getattr(given, 'index', None)
        if seen is None and index is not None and labels is not None and not callable(labels):
            seen = {label: [place] for place, label in enumerate(index)} if index.is_unique else None
        keys = _row_keys(given)
        if count > len(places) or seen is None or any(row not in seen for row in keys):
            raise DatasetError(
                f'{len(places)} positions are given for {count} rows, not known to be some of them: '
                'name columns of X as positions, such as ("lon", "lat"), or split all rows by them first'
            )
        if any(np.ptp(places[seen[row]], axis=0).any() for row in keys):
            raise DatasetError(
                'rows of X are equal and lie at different positions, so a part of them cannot be placed: '
                'give X as a DataFrame, or name columns of it as positions, such as ("lon", "lat")'
            )
        return np.array([seen[row][0] for row in keys], np.int64)


def _are_names(positions: Positions) -> bool:
    return isinstance(positions, list | tuple) and all(isinstance(one, str) for one in positions)


def _row_keys(given: Any) -> list[Any]:  # noqa: ANN401
    """What tells rows apart: labels of an index, or else the bytes or the text of a row."""
    labels = getattr(given, 'index', None)
    if labels is not None and not callable(labels):
        return list(labels) if labels.is_unique else [str(row) for row in given.itertuples()]
    if hasattr(given, 'tocsr'):
        rows = given.tocsr()
        rows.sort_indices()
        spans = [slice(*ends) for ends in pairwise(rows.indptr.tolist())]
        return [(rows.indices[span].tobytes(), rows.data[span].tobytes()) for span in spans]
    array = np.asarray(given)
    if array.dtype == object:
        return [str(row) for row in array.tolist()]
    return [row.tobytes() for row in np.ascontiguousarray(array)]


class GeographicKFold(_Located):
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
        positions: positions of the rows; or the names of the columns of `X` with longitude and latitude,
            such as ('lon', 'lat'); `X` of `split` by default.
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
            y: labels, one or a list of them per row, or (N, K); values of a regression are not balanced.
            groups: names of regions, for method 'regions'.

        Raises:
            DatasetError: if positions or arguments are invalid, or there are fewer places than folds.
        """
        places = self._places(X)
        matrix = _labels(y) if self.stratify else None
        matrix = np.zeros((len(places), 0), bool) if matrix is None else matrix
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


class LeaveOneRegionOut(_Located):
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
        places = self._places(X) if self.buffer else np.zeros((len(owners), 2))
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


def _apart(places: Lonlat, test: NDArray[np.int64], train: NDArray[np.int64], buffer: float) -> Fold:
    kept = train[~near(places[train], places[test], buffer)] if buffer else train
    if not len(kept):
        raise DatasetError(f'a buffer of {buffer:g} m leaves none of {len(train):,} rows to train on')
    return kept, test
