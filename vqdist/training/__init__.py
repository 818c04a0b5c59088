"""One loop for both stages, and what lets it stop and go on."""
