"""Reads and writes the JSON files of a data set: each holds one dataclass, and the format's version. For Python 3.9."""

from slurm_tf.errors import DatasetError
from slurm_tf.run.json_format import JsonFormat

FORMAT = "1.0"
_JSON = JsonFormat("data set", FORMAT, DatasetError, "copy or prepare the data set again")
read, loads, write, dumps = _JSON.read, _JSON.loads, _JSON.write, _JSON.dumps
