"""Short strings that change when the content of a raster changes."""

import hashlib
from pathlib import Path
from typing import Final

from geores.addresses import without_secrets
from geores.errors import SceneError
from geores.scenes.gdal import open_dataset

__all__ = ['file_fingerprint', 'remote_fingerprint']

_END_BYTES: Final = 64 * 1024


def file_fingerprint(path: str) -> str:
    """Digest the size, the time of change and both ends of a local file.

    Raises:
        SceneError: If the file cannot be read any more.
    """
    try:
        status = Path(path).stat()
        with Path(path).open('rb') as file:
            digest = hashlib.sha256(file.read(_END_BYTES))
            file.seek(max(0, status.st_size - _END_BYTES))
            digest.update(file.read(_END_BYTES))
    except OSError as error:
        raise SceneError(f'{path}: cannot be read any more ({error.strerror})') from error
    digest.update(f'{status.st_size} {status.st_mtime_ns}'.encode())
    return digest.hexdigest()


def remote_fingerprint(path: str, driver: str) -> str:
    """Digest what the header of a remote file says, with the place of its last block.

    Raises:
        SceneError: If it cannot be opened.
    """
    with open_dataset(path, driver, quiet=True) as dataset:
        rows, cols = dataset.block_shapes[0]
        last = f'{(dataset.width - 1) // cols}_{(dataset.height - 1) // rows}'
        place = [
            dataset.get_tag_item(f'BLOCK_{item}_{last}', 'TIFF', bidx=dataset.count)
            for item in ('OFFSET', 'SIZE')
        ]
        # A token that is renewed does not make it another file.
        stated = (without_secrets(path), dataset.profile, dataset.descriptions, dataset.tags(), place)
    return hashlib.sha256(repr(stated).encode()).hexdigest()
