"""From verified shards to batches: batch plans, loader workers, shared memory, the sample cache."""
