"""Former module of tests/support, for imports that do not name it yet."""

from support import ALONE, launch, save_prior, save_vqvae, write_codes, write_images

__all__ = ["ALONE", "launch", "save_prior", "save_vqvae", "write_codes", "write_images"]
