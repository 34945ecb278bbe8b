"""Draws every plot that slurm-tf makes, as SVG in HTML pages of one file each."""

# what other rooms may import
__all__ = ["charts", "html_page"]
