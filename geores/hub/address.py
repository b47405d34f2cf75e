"""Addresses of models on the Hugging Face Hub, and fetching them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from geores.errors import ModelNotFoundError, ReadError, UsageError

__all__ = ['PREFIX', 'HubAddress', 'fetch']

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
