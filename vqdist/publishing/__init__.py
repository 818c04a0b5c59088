"""Pass a trained model on: its files, a card that describes it, and where they go."""
