"""Published models: their address on the Hugging Face Hub, fetching them, and reading their snapshot.

A snapshot holds the publishers' configuration and weights. Reading it makes the card that geores needs, and
puts the weights under the names of the network.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from geores import models
from geores.card import CARD_FILE, ModelCard
from geores.errors import BundleError, ModelNotFoundError, ReadError, UsageError, import_extra
from geores.hub.reben import make_card, release_of
from geores.rebuild import rebuild
from geores.weight_files import WEIGHTS_FILE, read_weights, sha256_of

__all__ = [
    'CONFIG_FILE',
    'PREFIX',
    'HubAddress',
    'Snapshot',
    'fetch',
    'is_snapshot',
    'load_snapshot',
    'read_snapshot',
]

PREFIX = 'hf:'
"""Start of an address on the Hub."""
CONFIG_FILE = 'config.json'
WRAPPERS = ('model.', 'vision_encoder.')
"""Prefixes of tensor names: a Lightning module and, in it, ConfigILM around the network of timm."""

_FILES = ('card.json', 'config.json', 'model.safetensors', 'README.md')
_NAMED = 5
"""Tensors that a message names."""
_NAME = r'(?!\S*(?:--|\.\.))\w(?:[\w.-]{0,94}\w)?'  # as the Hub has it
_ADDRESS = re.compile(rf'hf:(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>\w[\w.-]*(?:/\w[\w.-]*)*))?', re.ASCII)
_LONGEST = 300
"""Characters of an address; a revision names a file in the Hub's cache."""


@dataclass(frozen=True)
class HubAddress:
    """A repository on the Hub at a revision.

    Attributes:
        repo: owner and name.
        revision: commit, tag or branch; None for the newest.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address such as `hf:owner/name` or `hf:owner/name@revision`.

        Raises:
            UsageError: if the text is no such address.
        """
        match = _ADDRESS.fullmatch(text.strip()) if len(text) <= _LONGEST else None
        if match is None:
            raise UsageError(
                f'{text[:_LONGEST]!r} is no address of a model: write hf:owner/name or hf:owner/name@revision'
            )
        return cls(match['repo'], match['revision'])


def fetch(address: HubAddress) -> Path:
    """Download a model's files, or find them in the Hub's cache.

    The Hub's own settings apply: with `HF_HUB_OFFLINE=1` only the cache is used, `HF_HOME` sets where it is.
    Only card, configuration, description and safetensors are downloaded.

    Args:
        address: of the model.

    Returns:
        The folder of the snapshot.

    Raises:
        ModelNotFoundError: if there is no such repository or revision, or access has to be requested.
        ReadError: if the Hub cannot be reached and the cache does not hold the model.
    """
    huggingface_hub = import_extra('huggingface_hub')
    from huggingface_hub import errors

    try:
        folder = huggingface_hub.snapshot_download(
            address.repo, revision=address.revision, allow_patterns=list(_FILES)
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise ModelNotFoundError(f'{_shown(address)}: {_reason(error)}') from error
    except Exception as error:  # network, disk and client raise errors of many kinds
        raise ReadError(
            f'{_shown(address)} cannot be fetched and is not in the cache of the Hub ({_reason(error)}): '
            'try again with a network, or give the folder of a snapshot'
        ) from error
    return Path(folder)


def _shown(address: HubAddress) -> str:
    return f'{PREFIX}{address.repo}' + (f'@{address.revision}' if address.revision else '')


def _reason(error: Exception) -> str:
    return ' '.join(str(error).split())[:300] or type(error).__name__


@dataclass(frozen=True)
class Snapshot:
    """A published model as read from its files.

    Attributes:
        card: with the SHA-256 of the weights file.
        tensors: under the network's own names.
        prefix: of these names in the file.
        missing: names of tensors that the file lacks, or has in another shape.
        unexpected: names of tensors that the network does not have.
    """

    card: ModelCard
    tensors: Mapping[str, Tensor]
    prefix: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether the file has exactly the tensors of the network."""
        return not self.missing and not self.unexpected

    def require_match(self, path: Path) -> None:
        """Refuse a file of another network.

        Args:
            path: of the file, for the message.

        Raises:
            BundleError: if tensors are missing or unexpected; the message names the first of them.
        """
        problems = [
            f'{what}: {", ".join(names[:_NAMED])}'
            + (f' and {len(names) - _NAMED} more' * (len(names) > _NAMED))
            for what, names in (('missing', self.missing), ('unexpected', self.unexpected))
            if names
        ]
        if problems:
            architecture = self.card.architecture
            raise BundleError(f'{path}: tensors do not match {architecture}: {"; ".join(problems)}')


def is_snapshot(folder: Path) -> bool:
    """Whether a folder is a snapshot: it has a configuration, and no card of geores."""
    return (folder / CONFIG_FILE).is_file() and not (folder / CARD_FILE).is_file()


def load_snapshot(folder: Path, name: str = '') -> tuple[ModelCard, nn.Module]:
    """Load card and network of a published model.

    Args:
        folder: with `config.json` and `model.safetensors`.
        name: as the user gave it, which may tell model and release.

    Raises:
        BundleError: if the files are incomplete or damaged, the model is not known, or tensors do not match
            the network that the configuration names; the message names them.
    """
    snapshot = read_snapshot(folder, name)
    snapshot.require_match(folder / WEIGHTS_FILE)
    return snapshot.card, rebuild(snapshot.card, snapshot.tensors)


def read_snapshot(folder: Path, name: str = '') -> Snapshot:
    """Read a published model whose tensors may not match its network.

    Args:
        folder: as in `load_snapshot`.
        name: as in `load_snapshot`.

    Raises:
        BundleError: if the files are incomplete or damaged, or the model is not known.
    """
    weights = folder / WEIGHTS_FILE
    config = _config(folder / CONFIG_FILE)
    tensors = read_weights(weights)
    card = replace(make_card(config, release_of(folder, name), folder), sha256=sha256_of(weights))
    with models.without_memory():
        wanted = models.create(card.architecture, **card.architecture_kwargs).state_dict()
    prefix = _prefix(wanted, tensors)
    tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    missing = [
        key for key, tensor in wanted.items() if key not in tensors or tensors[key].shape != tensor.shape
    ]
    return Snapshot(card, tensors, prefix, tuple(missing), tuple(sorted(tensors.keys() - wanted.keys())))


def _prefix(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The combination of wrapper prefixes under which most of the network's tensors are found."""
    outer, inner = WRAPPERS
    prefixes = ('', inner, outer, outer + inner)
    return max(prefixes, key=lambda prefix: sum(prefix + name in found for name in wanted))


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f'{path}: cannot be read: {error}') from error
    # The Hub's mixin stores several arguments by name, and the fields of a single one directly.
    if isinstance(config, dict) and isinstance(config.get('config'), dict):
        config = config['config']
    if not isinstance(config, dict) or not isinstance(config.get('timm_model_name'), str):
        raise BundleError(f"{path}: is not of a published reBEN model, for it has no 'timm_model_name'")
    return config
