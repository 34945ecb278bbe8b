"""The environment variables that one stage of a job sets for the next. Standard library, Python 3.9."""

# --- coordinator -> agent, in the environment of the step ---
# "host,host,...:port", the addresses to try in this order
COORDINATOR = "SLURM_TF_COORDINATOR"
# seconds until which an agent must have found its coordinator
REGISTER_TIMEOUT = "SLURM_TF_REGISTER_TIMEOUT"
# hexadecimal, 32 bytes; the agent takes it out of the program's environment
SECRET = "SLURM_TF_SECRET"

# the job file's [env], as JSON: it is set for the program alone, as it could break the launcher's own Python
PROGRAM_ENV = "SLURM_TF_PROGRAM_ENV"

# --- image -> agent, set by the bundle that Slurm runs: the agent is inside (launch/mapping/oci_bundle.py) ---
INSIDE = "SLURM_TF_INSIDE"
OCI = "oci"

# --- batch script -> tasks, from the site's profile ---
SCRATCH = "SLURM_TF_SCRATCH"  # the node's own fast folder
THREAD_VARIABLES = "SLURM_TF_THREAD_VARIABLES"  # "NAME,NAME": those that get a task's number of CPUs

# --- user -> tasks without a coordinator (launch/direct/direct_launch.py), beside REGISTER_TIMEOUT and STRATEGY ---
ROLES = "SLURM_TF_ROLES"  # "chief=1,ps=1,worker=3", in rank order
EXCHANGE = "SLURM_TF_EXCHANGE"  # the folder where the tasks meet
PORTS = "SLURM_TF_PORTS"  # "20000-20999"; for an agent too, as a site's TaskProlog may give each user ports
INTERFACE = "SLURM_TF_INTERFACE"
GPU_SHARING = "SLURM_TF_GPU_SHARING"  # "split" or "all"
# and SLURM_TF_PYTHON, which only the shell script of a TaskProlog reads (submit/task_prolog.py)

# --- agent -> program, beside TF_CONFIG ---
CONTRACT = "SLURM_TF_CONTRACT"  # VERSION
RUN = "SLURM_TF_RUN"  # the run's name
RUN_FOLDER = "SLURM_TF_RUN_FOLDER"
STRATEGY = "SLURM_TF_STRATEGY"
TASK = "SLURM_TF_TASK"  # "worker:0", also where there is no TF_CONFIG
ATTEMPT = "SLURM_TF_ATTEMPT"  # as in the run's lease: "12_3.0" is the first incarnation of job 12_3
STEP = "SLURM_TF_STEP"  # how many steps the attempt has had before this one, as in the run's lease
RESTARTS = "SLURM_TF_RESTARTS"  # how often this task was started again in its allocation
CHECKPOINT_FOLDER = "SLURM_TF_CHECKPOINT_FOLDER"
GPUS = "SLURM_TF_GPUS"  # GpuNeed of the task, see run/settings.py
TRAIN = "SLURM_TF_TRAIN"  # [checkpoint] and [train] of the job file, as JSON: see run/train_settings.py
EXPORT_FOLDER = "SLURM_TF_EXPORT_FOLDER"
# slurm-tf export -> program: the step whose checkpoint run.export writes into the folder of exports, without training
EXPORT_STEP = "SLURM_TF_EXPORT_STEP"
STAGE_FOLDER = "SLURM_TF_STAGE_FOLDER"  # what [stage] names: copies on the node, or links; only with [stage]
TENSORBOARD_FOLDER = "SLURM_TF_TENSORBOARD_FOLDER"
PARAMS = "SLURM_TF_PARAMS"  # the values of the job's params, as JSON: {"rate": 0.1}
SERVE = "SLURM_TF_SERVE"  # [serve] of the job file, as JSON: see run/serve_settings.py; only of a replica
# and under strategy engine, where there is no TF_CONFIG; the first two also where there is a tf.data service:
CLUSTER = "SLURM_TF_CLUSTER"  # the addresses of all tasks, as JSON: {"worker": ["10.0.0.1:4000", ...]}
ADDRESS = "SLURM_TF_ADDRESS"  # this task's own of these
MEM = "SLURM_TF_MEM"  # MiB of memory that this task has
ENGINE_SECRET = "SLURM_TF_ENGINE_SECRET"  # hexadecimal, the same for all tasks of a step
# number of an inherited socket: lines of JSON between the program and its agent, see run/program_messages.py
CONTROL_FD = "SLURM_TF_CONTROL_FD"
# exit code of a program that was told to save and to end: EX_TEMPFAIL of sysexits.h
INTERRUPTED = 75

# Slurm sets all of these to the same list of devices (22.05.8); a program reads the one of its vendor.
DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")

# What TF_CONFIG says, for DTensor (tensorflow/dtensor/python/config.py); the second is of older programs.
DTENSOR_VARIABLES = ("DTENSOR_JOBS", "DTENSOR_NUM_CLIENTS", "DTENSOR_CLIENT_ID", "DTENSOR_JOB_NAME")

# Refused in a job's [env]: Slurm and the launcher set them.
RESERVED_PREFIXES = ("SLURM_", "SLURMD_")
RESERVED = ("TF_CONFIG", "CUDA_VISIBLE_DEVICES", *DTENSOR_VARIABLES)
