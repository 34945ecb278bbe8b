"""jobstats' summary in AdminComment; the shape is that of github.com/troycomi/reportseff, tests/conftest.py."""

import base64
import gzip
import json

import pytest

from slurm_tf.account.jobstats import gpu_use, read


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


def test_cpus_memory_and_gpus_by_node() -> None:
    one = {"cpus": 4, "used_memory": 6, "total_memory": 8, "total_time": 30.0, "gpu_total_memory": {"0": 10, "1": 10},
           "gpu_used_memory": {"0": 5, "1": 1}, "gpu_utilization": {"0": 50}}  # fmt: skip
    summary = read(
        packed({"nodes": {"a": one, "b": {"cpus": 4, "used_memory": 2, "total_memory": 8}}, "total_time": 15})
    )
    assert summary is not None
    assert (summary.busy_cpus, summary.cpu_share, summary.memory, summary.memory_of) == (2.0, 0.25, 8, 16)
    assert (summary.node_memory, summary.gpus, summary.gpu_use, summary.gpu_memory_share) == (6, 2, 50.0, 0.3)
