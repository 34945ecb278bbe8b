"""Versions of a model on storage: SavedModels in numbered folders, their manifests, and which of them is served."""

# what other rooms may import
__all__ = ["model_manifest", "model_versions", "new_version", "old_versions", "served_versions", "serving_file"]
