"""BigEarthNet v2 (reBEN): the naming, nomenclature, metadata and storage of its patches."""
