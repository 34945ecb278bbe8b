"""What an srun passes on to tasks in a container."""

from slurm_tf.launch.mapping import step_environ
from slurm_tf.run.container_settings import ContainerSettings, Runtime

HOST = {"PATH": "/host/bin", "LD_LIBRARY_PATH": "/host/lib", "PYTHONPATH": "/host/site"}
# of the batch script, as a task of its own
OF_BATCH = {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURMD_NODENAME": "node1", "CUDA_VISIBLE_DEVICES": "0,1"}
ALL = {
    **HOST,
    **OF_BATCH,
    "SLURM_JOB_ID": "7",
    "SLURM_TRES_BIND": "gpu:single:1",
    "RATE": "$HOME `id`\n'\"",
    "HOME": "/home/alice",
}


def test_neither_the_hosts_paths_nor_the_batch_scripts_own_rank_go_in() -> None:
    container = ContainerSettings(Runtime.OCI, (), "/images/tf")
    inside = step_environ.environ_of_srun(ALL, [container], frozenset({"HOME", "SLURM_TF_INSIDE"}))
    assert inside == {"SLURM_JOB_ID": "7", "SLURM_TRES_BIND": "gpu:single:1", "RATE": "$HOME `id`\n'\""}


def test_what_the_job_file_names_goes_in() -> None:
    container = ContainerSettings(Runtime.PYXIS, (), "/images/tf", env_from_host=("PYTHONPATH", "ABSENT"))
    assert step_environ.environ_of_srun(ALL, [container], frozenset())["PYTHONPATH"] == "/host/site"
