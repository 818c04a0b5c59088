"""From folders of images or volumes to verified shards, and from shards to batches."""
