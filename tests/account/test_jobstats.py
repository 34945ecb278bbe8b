"""jobstats' summary in AdminComment; the shape is that of github.com/troycomi/reportseff, tests/conftest.py."""

import base64
import gzip
import json

import pytest

from slurm_tf.account.jobstats import gpu_use


def packed(summary: object) -> str:
    return "JS1:" + base64.b64encode(gzip.compress(json.dumps(summary).encode())).decode()


def node(**shares: float) -> dict[str, object]:
    return {"cpus": 28, "used_memory": 1, "total_memory": 2, "total_time": 3.0, "gpu_utilization": shares}


def test_the_mean_over_all_gpus() -> None:
    nodes = {"a": node(**{"0": 3.5, "1": 7.5}), "b": node(**{"0": 19.0})}
    assert gpu_use(packed({"gpus": True, "nodes": nodes, "total_time": 9})) == 10.0


@pytest.mark.parametrize(
    "text",
    [
        "JS1:Short", "JS1:None", "JS1:", "JS1:AAAA", packed({}), packed([]), packed({"nodes": {"a": 1}}),
        packed({"nodes": {"a": {"cpus": 1}}}), packed({"nodes": {"a": node(**{"0": "x"})}}),  # type: ignore[arg-type]
        "JS1:" + base64.b64encode(gzip.compress(b" " * 2**24 + b"{}")).decode(),
    ],
    ids=range(10),
)  # fmt: skip
def test_none_where_there_is_none(text: str) -> None:
    assert gpu_use(text) is None
