"""What shards are made from: image folders, OASIS layouts, NIfTI volumes, synthetic brains."""
