"""The keys of a recipe, the TOML file of `slurm-tf prepare`: its sources, the transform, features, split and output."""

from typing import Annotated, Literal

from msgspec import Meta, field

from slurm_tf.jobspec.base_table import Base

Format = Literal["csv", "jsonl", "parquet", "images", "arrays", "sqlite", "mysql", "postgresql", "hive"]
Number = int | float


class Source(Base, frozen=True):
    """A table of rows; in SQL it has the name of this table of TOML."""

    format: Annotated[Format, Meta(description="what the source is")]
    path: Annotated[
        str | tuple[str, ...],
        Meta(description="files, with * and ? as in a shell; of images and arrays one folder; of SQLite its file"),
    ] = ()
    columns: Annotated[
        dict[str, str],
        Meta(description="the schema: each column, in the order of a CSV file, with its type in SQL; not for images"),
    ] = field(default_factory=dict)
    delimiter: Annotated[str, Meta(min_length=1, max_length=1, description="between two values of CSV")] = ","
    quote: Annotated[str, Meta(min_length=1, max_length=1, description="around values of CSV that need it")] = '"'
    null: Annotated[tuple[str, ...], Meta(description="texts of CSV that stand for a missing value")] = ("",)
    url: Annotated[
        str | None, Meta(description="of a database: mysql://USER@HOST:PORT/DATABASE or postgresql://...; no password")
    ] = None
    password_file: Annotated[str | None, Meta(description="a file with the password, which you alone can read")] = None
    password_variable: Annotated[str | None, Meta(description="an environment variable with the password")] = None
    query: Annotated[str | None, Meta(description="the SELECT of a database whose rows the source has")] = None


class Transform(Base, frozen=True):
    """What makes rows of the sources. Without it there is one source, and its rows are those of the data set."""

    sql: Annotated[str | None, Meta(description="a file with one SELECT statement over the sources")] = None
    python: Annotated[
        str | None,
        Meta(description="FILE.py:FUNCTION, called with batches of rows (pyarrow.RecordBatch) after sql; row by row"),
    ] = None


class Vocabulary(Base, frozen=True):
    """Numbers for words, by how often they are in train: 0 is padding, 1 any other word."""

    min_count: Annotated[int, Meta(ge=1, description="how often a word must be in train")] = 1
    max_size: Annotated[int, Meta(ge=1, description="how many words there may be, the most frequent ones")] | None = (
        None
    )


class FeatureKeys(Base, frozen=True):
    """A feature of the records: the column of its name, as it is or changed."""

    kind: Annotated[
        Literal["int64", "float", "bytes"] | None,
        Meta(description="what its values are; default with vocabulary or buckets: int64, with normalized: float"),
    ] = None
    shape: Annotated[tuple[int, ...], Meta(description="[] one value, [28, 28] an array, [-1] any number")] = ()
    sequence: Annotated[bool, Meta(description="a list of steps, each of the shape: tf.train.SequenceExample")] = False
    default: Annotated[
        int | float | str | tuple[()] | None,
        Meta(description="what a reader gives for a missing value; none: required"),
    ] = None
    allow_nan: Annotated[bool, Meta(description="whether values may be NaN or infinite")] = False
    vocabulary: Annotated[Vocabulary | None, Meta(description="numbers in place of words")] = None
    buckets: Annotated[
        tuple[Number, ...] | int | None,
        Meta(
            description="the number of the bucket in place of a number: their edges, or how many equal parts of train"
        ),
    ] = None
    normalized: Annotated[bool, Meta(description="with mean 0 and variance 1 in train")] = False


class SplitKeys(Base, frozen=True):
    """Which rows are in which split: it depends on the key of a row alone."""

    key: Annotated[tuple[str, ...], Meta(min_length=1, description="columns of text or integers that tell rows apart")]
    shares: Annotated[dict[str, Number], Meta(min_length=1, description="the share of each split; together 1")] = field(
        default_factory=lambda: {"train": 1}
    )


class Output(Base, frozen=True):
    """Where the data set is written, and how."""

    folder: Annotated[str, Meta(min_length=1, description="a folder that is not there yet")]
    form: Annotated[Literal["tfrecord", "csv", "jsonl"], Meta(description="what the shards are")] = "tfrecord"
    compression: Annotated[
        Literal["gzip"] | None, Meta(description="of TFRecord for export; run.records reads none")
    ] = None
    shards: Annotated[
        Annotated[int, Meta(ge=1, le=99999)] | dict[str, Annotated[int, Meta(ge=1, le=99999)]],
        Meta(description="how many files each split has, or a table of them by split"),
    ] = 1


class Recipe(Base, frozen=True):
    """All that a data set is made from."""

    sources: Annotated[dict[str, Source], Meta(min_length=1, description="the tables that rows come from, by name")]
    features: Annotated[dict[str, FeatureKeys], Meta(min_length=1, description="the features of records, by name")]
    split: SplitKeys
    output: Output
    transform: Transform = Transform()
    engine: Annotated[
        Literal["duckdb", "spark"],
        Meta(description="what runs the SQL: DuckDB, on one node; Spark, on all nodes of a job with strategy engine"),
    ] = "duckdb"
    mem: Annotated[
        str | int,
        Meta(description="memory of DuckDB or of each process of Spark, as sbatch's --mem; more goes to scratch"),
    ] = "1G"
    cpus: (
        Annotated[int, Meta(ge=1, description="how many CPUs are used; default: all that the job or shell has")] | None
    ) = None
    scratch: Annotated[
        str | None, Meta(description="a folder for what does not fit; default: in the output folder")
    ] = None
