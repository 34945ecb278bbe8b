"""Exports a model as a new version: written aside, checked by a process of its own, then renamed. For Python 3.9."""

# what other rooms may import
__all__ = ["exporter"]
