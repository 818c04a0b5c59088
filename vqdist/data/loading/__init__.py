"""From verified shards to batches: plans, loader workers, shared memory, the sample cache."""
