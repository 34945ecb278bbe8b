"""What the process that checks a version found: a file that it writes. Standard library, Python 3.9."""

from dataclasses import dataclass
from typing import Mapping

from slurm_tf.errors import ModelError
from slurm_tf.models.model_manifest import Signature
from slurm_tf.run.json_format import JsonFormat

_JSON = JsonFormat("check of a model", "1.0", ModelError, "check the model again")
read, write = _JSON.read, _JSON.write


@dataclass(frozen=True)
class CheckReport:
    """`problem`: why the version cannot be served, "" for one that can; `signatures`: those that were run."""

    problem: str
    signatures: Mapping[str, Signature]
    tensorflow: str
