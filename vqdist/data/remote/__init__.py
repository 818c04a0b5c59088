"""Datasets at a URL: download, prefetch and the local cache."""
