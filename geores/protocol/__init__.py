"""Baselines of scene classification, compared by the protocol of NWPU-RESISC45 (Cheng et al. 2017)."""
