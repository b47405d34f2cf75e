"""Files that appear whole or not at all, the record of runs, and options by name."""
