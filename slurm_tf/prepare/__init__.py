"""Raw data to a prepared data set: shards of records with an index, statistics and a manifest."""

# what other rooms may import
__all__ = [
    "comparison",
    "data_comparison",
    "data_page",
    "example_fields",
    "first_recipe",
    "preparation",
    "recipe",
    "recipe_file",
    "spark_cluster",
    "statistics_rows",
    "verification",
]
