"""Names of labels and data sets, compared regardless of how people write them."""

import difflib
import re
from collections.abc import Mapping, Sequence

from geores.card import ModelCard
from geores.errors import UsageError

__all__ = ['meanings', 'trained_on']

# Words of a card that folders are named by too, whatever they hold.
_NO_NAMES = frozenset({
    'aerial', 'all', 'data', 'dataset', 'eval', 'image', 'imagery', 'images', 'label', 'labelled', 'labels',
    'new', 'patches', 'sentinel', 'sentinel2', 'scenes', 'set', 'test', 'tiles', 'train', 'training', 'val',
    'validation', 'with', 'without',
})  # fmt: skip
_WORDS = 5  # of the longest name of a data set


def meanings(
    found: Sequence[str], labels: Sequence[str], label_map: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Map each label of the data to a label of the model.

    Names are the same if they are equal, or else equal in their letters and digits ('Sea Lake' and
    'sea-lake') where only one label is.

    Args:
        found: labels of the data.
        labels: labels of the model.
        label_map: label of the data, which need not be there, -> label of the model; goes first.

    Returns:
        Label of the data -> label of the model, and labels of the data that the model does not know.

    Raises:
        UsageError: if the map names a label that the model does not know.
    """
    for new in label_map.values():
        if new not in labels:
            near = difflib.get_close_matches(new, labels, n=1)
            hint = f'did you mean {near[0]!r}?' if near else f'it knows {", ".join(labels)}'
            raise UsageError(f'label map: the model knows no label {new!r}: {hint}')
    meaning = {label: label_map.get(label) or _same(label, labels) for label in found}
    return (
        {label: name for label, name in meaning.items() if name is not None},
        [label for label, name in meaning.items() if name is None],
    )


def trained_on(card: ModelCard, sources: Sequence[str]) -> list[str]:
    """Names of data sets that a model's card mentions as training or evaluation data.

    Args:
        card: card of the model.
        sources: names of folders or scenes.
    """
    words = re.findall(r'[^\W_]+', card.training_data)
    told = {
        _bare(''.join(words[start:end]))
        for start in range(len(words))
        for end in range(start + 1, min(start + _WORDS, len(words)) + 1)
        if _is_name(words[start], alone=end == start + 1)
    }
    told |= {_bare(source) for source in card.metrics}
    return [name for name in sorted(set(sources)) if len(_bare(name)) > 2 and _bare(name) in told - _NO_NAMES]


def _is_name(word: str, *, alone: bool) -> bool:
    """Whether a data set's name may start with a word, or be it: 'UC' Merced and 'AID', not 'land'."""
    odd = word.upper() == word or any(letter.isupper() for letter in word[1:]) or not word.isalpha()
    return odd or (word[0].isupper() and not alone)


def _same(label: str, labels: Sequence[str]) -> str | None:
    if label in labels:
        return label
    alike = [name for name in labels if _bare(name) == _bare(label)]
    return alike[0] if len(alike) == 1 else None


def _bare(name: str) -> str:
    return ''.join(re.findall(r'[^\W_]+', name.lower()))
