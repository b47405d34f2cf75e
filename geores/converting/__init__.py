"""Convert reBEN between its layouts on disk, and verify the result."""
