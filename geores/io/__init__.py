"""Files that appear whole or not at all, one lock, one journal, one process map, records, options by name."""
