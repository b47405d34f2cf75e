"""Files that appear whole: see `geores.io.whole_files`, where this lives."""

from geores.io.whole_files import check_free, check_writable, failing, whole_files

__all__ = ['check_free', 'check_writable', 'failing', 'whole_files']
