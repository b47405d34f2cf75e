"""Models that others published: fetched from the Hugging Face Hub, or in a snapshot folder of it."""

from geores.hub.loading import PREFIX, HubAddress, fetch, is_snapshot, load_snapshot, read_snapshot

__all__ = ['PREFIX', 'HubAddress', 'fetch', 'is_snapshot', 'load_snapshot', 'read_snapshot']
