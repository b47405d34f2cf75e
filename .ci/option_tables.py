"""Write the tables of options of a page anew: python .ci/option_tables.py docs/commands.md."""

import sys
from pathlib import Path

from geores.cli.option_sets import fill_tables

for file in map(Path, sys.argv[1:]):
    file.write_text(fill_tables(file.read_text(encoding='utf-8')), encoding='utf-8')
