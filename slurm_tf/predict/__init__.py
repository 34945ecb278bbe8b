"""Batch prediction: a version of a model on every row of many files, in shards that are done whole or not at all."""

# what other rooms may import
__all__ = ["batch_prediction", "prediction_plan"]
