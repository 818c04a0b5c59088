"""Shards on disk: manifest, index, writer, reader and payload codecs."""
