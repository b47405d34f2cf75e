"""Ask a scene: look at its tiles once, then answer any number of questions."""
