"""The two models, the quantizer between them, and how they are saved."""
