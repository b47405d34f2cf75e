"""Simple methods compared by the protocol of NWPU-RESISC45."""
