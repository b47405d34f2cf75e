"""Addresses of models on the Hugging Face Hub, and fetching them.

From the snapshot of a published model to its card and its weights under the names of its network.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from geores import models
from geores.card import CARD_FILE, ModelCard
from geores.errors import BundleError, ModelNotFoundError, ReadError, UsageError
from geores.extras import require
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
_FILES = ('card.json', 'config.json', 'model.safetensors', 'README.md')
_ADDRESS = re.compile(r'hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?', re.ASCII)


@dataclass(frozen=True)
class HubAddress:
    """A repository of the Hub, and which revision of it.

    Attributes:
        repo: Owner and name.
        revision: Commit, tag or branch; None takes the newest.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address such as `hf:owner/name` or `hf:owner/name@revision`.

        Raises:
            UsageError: It is no such address.
        """
        match = _ADDRESS.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f'{text!r} is no address of a model: write hf:owner/name or hf:owner/name@revision'
            )
        return cls(match['repo'], match['revision'])


def fetch(address: HubAddress) -> Path:
    """Bring a model's files to this machine, or find them in the Hub's cache.

    The Hub's own settings hold: `HF_HUB_OFFLINE=1` looks into the cache alone, `HF_HOME` says where that
    is. Nothing but card, configuration, description and safetensors is fetched.

    Args:
        address: What to fetch.

    Returns:
        The snapshot's folder.

    Raises:
        ModelNotFoundError: There is no such repository or revision, or it has to be asked for.
        ReadError: The Hub cannot be reached and the cache does not hold it.
    """
    require('huggingface_hub')
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = huggingface_hub.snapshot_download(
            address.repo, revision=address.revision, allow_patterns=list(_FILES)
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise ModelNotFoundError(f'{_shown(address)}: {_reason(error)}') from error
    except Exception as error:  # whatever network, disk or client make of it
        raise ReadError(
            f'{_shown(address)} cannot be fetched and is not in the cache of the Hub ({_reason(error)}): '
            'try again with a network, or give the folder of a snapshot'
        ) from error
    return Path(folder)


def _shown(address: HubAddress) -> str:
    return f'{PREFIX}{address.repo}' + (f'@{address.revision}' if address.revision else '')


def _reason(error: Exception) -> str:
    return ' '.join(str(error).split())[:300] or type(error).__name__


CONFIG_FILE = 'config.json'
WRAPPERS = ('model.', 'vision_encoder.')
"""What stands before the names of timm: a Lightning module and ConfigILM around the network."""

_NAMED = 5


@dataclass(frozen=True)
class Snapshot:
    """A published model as its files give it.

    Attributes:
        card: With the SHA-256 of the weights file.
        tensors: Under the network's own names.
        prefix: What stood before these names.
        missing: Tensors of the network that the file lacks, or has in another shape.
        unexpected: Tensors of the file that are not the network's.
    """

    card: ModelCard
    tensors: Mapping[str, Tensor]
    prefix: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether every tensor has its place."""
        return not self.missing and not self.unexpected

    def require_match(self, path: Path) -> None:
        """Refuse a file that is of another network.

        Args:
            path: For the message.

        Raises:
            BundleError: A tensor is missing or unexpected; names the first of them.
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
    """Whether a folder is that of a published model: a configuration, and no card of geores."""
    return (folder / CONFIG_FILE).is_file() and not (folder / CARD_FILE).is_file()


def load_snapshot(folder: Path, name: str = '') -> tuple[ModelCard, nn.Module]:
    """Card and network of a published model.

    Args:
        folder: With `config.json` and `model.safetensors`.
        name: How it was asked for, which may say which model and release it is.

    Raises:
        BundleError: The files are incomplete or damaged, of a model that is not known, or tensors do not
            match the network that the configuration names; these are named.
    """
    snapshot = read_snapshot(folder, name)
    snapshot.require_match(folder / WEIGHTS_FILE)
    return snapshot.card, rebuild(snapshot.card, snapshot.tensors)


def read_snapshot(folder: Path, name: str = '') -> Snapshot:
    """Read a published model without insisting that its tensors match.

    Args:
        folder: As in `load_snapshot`.
        name: As in `load_snapshot`.

    Raises:
        BundleError: The files are incomplete or damaged, or of a model that is not known.
    """
    weights = folder / WEIGHTS_FILE
    config = _config(folder / CONFIG_FILE)
    tensors = read_weights(weights)
    card = replace(make_card(config, release_of(folder, name), folder), sha256=sha256_of(weights))
    with torch.device('meta'):
        wanted = models.create(card.architecture, **card.architecture_kwargs).state_dict()
    prefix = _prefix(wanted, tensors)
    tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    missing = [key for key, one in wanted.items() if key not in tensors or tensors[key].shape != one.shape]
    return Snapshot(card, tensors, prefix, tuple(missing), tuple(sorted(tensors.keys() - wanted.keys())))


def _prefix(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The wrappers' names under which most of the tensors are the network's."""
    outer, inner = WRAPPERS
    prefixes = ('', inner, outer, outer + inner)
    return max(prefixes, key=lambda prefix: sum(prefix + name in found for name in wanted))


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f'{path}: cannot be read: {error}') from error
    # The Hub's mixin keeps arguments by name where it does not flatten a single one.
    if isinstance(config, dict) and isinstance(config.get('config'), dict):
        config = config['config']
    if not isinstance(config, dict) or not isinstance(config.get('timm_model_name'), str):
        raise BundleError(f"{path}: is not of a published reBEN model, for it has no 'timm_model_name'")
    return config
