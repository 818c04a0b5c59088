"""What `python -m vqdist.bench` measures: a file for each part, ours and the peers' in turn."""
