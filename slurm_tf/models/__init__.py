"""Versions of a model on storage: SavedModels in numbered folders, their manifests, and which of them is served."""

# what other rooms may import; a module is named here once another room uses it
__all__ = ["serving_file"]
