"""Ask a scene of any size: every tile is encoded once, and the answers of tiles become one answer."""
