"""The format of a prepared data set on storage: its manifest, the schema of its records, the index of a shard."""

# what other rooms may import
__all__ = [
    "assets", "dataset_manifest", "format_json", "record_frame", "schema", "shard_index", "sidecar", "statistics",
]  # fmt: skip
