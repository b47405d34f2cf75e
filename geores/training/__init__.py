"""A bundle of one's own classes, from scenes and labels."""
