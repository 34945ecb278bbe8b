"""The page in a browser: shows and changes what other rooms know and do, for the user who started it."""

# what other rooms may import
__all__ = ["server"]
