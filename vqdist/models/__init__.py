"""The VQ-VAE, its quantizer, the PixelCNN and its sampler, and how models are saved."""
