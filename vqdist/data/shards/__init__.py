"""Shards on disk: manifest, index, writer, reader, payload codecs."""
