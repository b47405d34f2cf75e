"""BigEarthNet v2.0 (reBEN): names, labels, metadata and storage of its patches, converted and verified."""
