"""What a profile says of accounts, QOS, features and disks is checked before anything is submitted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.plan import Plan

SITE = """
accounts = ["vision", "nlp"]
qos = ["normal", "urgent"]
scratch = "/local"
scratch-size = "400G"
default-partition = "gpu"
[partitions.gpu]
features = ["a100", "ib"]
accounts = ["vision"]
qos = ["normal"]
[partitions.all]
[partitions.old]
features = []
"""
JOB = 'name = "a"\nstrategy = "single"\ncommand = ["x"]\n{}\n[roles.worker]\n{}\n'
FOUND = "asks for "


@pytest.mark.parametrize(
    ("top", "role", "message"),
    [
        ("account = 'Vision'\nqos = 'normal'", "constraint = 'a100&ib'", ""),
        ("account = 'visions'", "", "account: found 'visions'; needed one of those of site .*: vision, nlp\nHINT: did"),
        ("qos = 'rush'", "", "qos: found 'rush'; needed one of those of site .*: normal, urgent"),
        ("account = 'nlp'", "", "account: asks for account nlp; needed vision, those of partition 'gpu'"),
        ("account = 'nlp'\npartition = 'gpu,all'", "", ""),
        ("qos = 'urgent'", "", "qos: asks for qos urgent; needed normal, those of partition 'gpu'"),
        ("", "constraint = 'v100'", "constraint: asks for nodes with v100; needed a100 or ib, the features of partit"),
        ("", "constraint = 'v100|a100'", ""),
        ("", "constraint = '[v100|t4]'", "asks for nodes with v100 and t4; needed"),
        ("", "constraint = 'ib*2&rack1*2'", "asks for nodes with rack1; needed"),
        ("partition = 'old'", "constraint = 'ib'", "needed none, the features of partition 'old'"),
        ("sbatch.tmp = '300G'", "", ""),
        ("sbatch.tmp = '1T'", "", "sbatch.tmp: found '1T'; needed at most 400G, what /local holds on nodes of site"),
        ("sbatch.tmp = 'much'", "", "sbatch.tmp: found 'much'; needed an amount of memory"),
    ],
)
def test_what_a_site_refuses(top: str, role: str, message: str, fit: Callable[..., Plan], tmp_path: Path) -> None:
    site = tmp_path / "uni.toml"
    site.write_text(SITE)
    if not message:
        assert fit(JOB.format(top, role), site=str(site)).components
        return
    with pytest.raises(ConfigError, match=message):
        fit(JOB.format(top, role), site=str(site))


@pytest.mark.parametrize(
    ("key", "top", "role", "needed"),
    [
        ("account", "account = 'vision'", "", "one, one of vision, nlp: site .* takes no job without it"),
        ("qos", "qos = 'normal'", "", "one, one of normal, urgent: site"),
        ("time", "time = 5", "", "one: site"),
        ("partition", "partition = 'all'", "", "one, one of gpu, all, old: site"),
        ("partition", "", "partition = 'all'", "one, one of gpu, all, old: site"),
        ("constraint", "", "constraint = 'ib'", "one: site"),
    ],
)
def test_what_a_site_takes_no_job_without(
    key: str, top: str, role: str, needed: str, fit: Callable[..., Plan], tmp_path: Path
) -> None:
    site = tmp_path / "uni.toml"
    site.write_text(f"required = ['{key}']\n{SITE}")
    assert fit(JOB.format(top, role), site=str(site)).components
    with pytest.raises(ConfigError, match=f": {key}: there is none; needed {needed}"):
        fit(JOB.format("", ""), site=str(site))
