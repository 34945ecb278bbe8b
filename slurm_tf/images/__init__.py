"""Container images on the login node: lists those of a site, and has its runtime build one."""

# what other rooms may import
__all__ = ["image_build", "image_list"]
