"""Examines machines for `slurm-tf doctor`: what each says of itself, and on nodes what they say to each other."""

# what other rooms may import
__all__ = ["machine"]
