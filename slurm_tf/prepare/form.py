"""The forms that a data set can have: TFRecord, TFRecord with GZIP, CSV, JSON lines."""

from enum import Enum


class Form(Enum):
    """What the shards of a data set are; the value is the end of their names."""

    TFRECORD = ".tfrecord"
    TFRECORD_GZIP = ".tfrecord.gz"
    CSV = ".csv"
    JSON_LINES = ".jsonl"

    @property
    def is_tfrecord(self) -> bool:
        """Whether the shards hold records of protobuf."""
        return self in (Form.TFRECORD, Form.TFRECORD_GZIP)
