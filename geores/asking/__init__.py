"""From the answers of tiles to one answer about a scene: pure functions, without files or networks."""
