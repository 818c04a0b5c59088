"""Datasets at a URL: download, prefetching and the local cache."""
