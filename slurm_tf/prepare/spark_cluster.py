"""Spark in a job with `strategy = "engine"`: its scheduler, its workers, and the session of the driver.

Whoever talks to another one proves that it knows the secret of the job, and what is said is encrypted. The secret is in
a file that we alone can read, never on a command line. Pages are off, or on loopback where Spark cannot be without.
Outside such a job the session is of this machine alone.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from slurm_tf import files
from slurm_tf.errors import ConfigError
from slurm_tf.run import env

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SCHEDULER = "scheduler"
# The class of Spark that a role runs; the driver runs the preparation.
_CLASSES = {
    _SCHEDULER: "org.apache.spark.deploy.master.Master",
    "worker": "org.apache.spark.deploy.worker.Worker",
}
# MiB of a process of Spark that only passes messages on, and of a task whose memory nobody says.
_DAEMON, _UNSAID = 384, 2048
_LOOPBACK = "127.0.0.1"
_LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = spark: %p %c{1}: %m%n
"""


@dataclass(frozen=True)
class SparkTask:
    """The task of the job that this process is; `scheduler`: the address of Spark's master, `mem`: MiB of the task."""

    role: str
    host: str
    port: int
    scheduler: str
    secret: str
    mem: int

    @property
    def serves(self) -> bool:
        """Whether it is the scheduler or a worker, and not the driver."""
        return self.role in _CLASSES


def task(environ: Mapping[str, str]) -> SparkTask | None:
    """Return the task of a job with an engine, None elsewhere. Raises ConfigError for a job without a scheduler."""
    if env.ENGINE_SECRET not in environ:
        return None
    schedulers = json.loads(environ[env.CLUSTER]).get(_SCHEDULER)
    if not schedulers:
        raise ConfigError("the job has no scheduler", "[roles.scheduler], which the workers of Spark look for")
    host, _, port = environ[env.ADDRESS].rpartition(":")
    mem = int(environ.get(env.MEM) or _UNSAID)
    role = environ[env.TASK].partition(":")[0]
    return SparkTask(role, host.strip("[]"), int(port), schedulers[0], environ[env.ENGINE_SECRET], mem)


def serve(found: SparkTask) -> int:
    """Be Spark's master or a worker until the job ends this task; return the exit code. Raises ConfigError."""
    with _settings(_authentication(found.secret)) as folder:
        words = ["--properties-file", _properties(folder), "--host", found.host, "--webui-port", "0"]
        if found.role == _SCHEDULER:
            words += ["--port", str(found.port)]
        else:
            heaps = max(_DAEMON, found.mem - _DAEMON)
            words += ["--cores", str(len(os.sched_getaffinity(0))), "--memory", f"{heaps}M", "--work-dir", folder]
            words.append(f"spark://{found.scheduler}")
        program = os.path.join(os.environ["SPARK_HOME"], "bin", "spark-class")
        process = subprocess.Popen([program, _CLASSES[found.role], *words])

        def end(_number: int, _frame: FrameType | None) -> None:
            process.terminate()

        signal.signal(signal.SIGTERM, end)
        return process.wait()


@contextlib.contextmanager
def session(mem: int, cpus: int, spill: str, found: SparkTask | None) -> Iterator["SparkSession"]:
    """Give the session of the driver: on the workers of the job, or on `cpus` of this machine.

    `mem`: MiB of the heap of the driver and of each worker; `spill`: the folder for what does not fit. Raises
    ConfigError.
    """
    host = found.host if found else _LOOPBACK
    settings = {
        "spark.app.name": "slurm-tf prepare",
        "spark.master": f"spark://{found.scheduler}" if found else f"local[{cpus}]",
        "spark.driver.host": host,
        "spark.driver.bindAddress": host,
        "spark.driver.memory": f"{mem}m",
        "spark.executor.memory": f"{mem}m",
        "spark.local.dir": spill,
        "spark.sql.warehouse.dir": os.path.join(spill, "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        # small ones are joined again
        "spark.sql.shuffle.partitions": "200" if found else str(2 * cpus),
        "spark.sql.ansi.enabled": "true",  # an overflow is an error, as in DuckDB
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **(_authentication(found.secret) if found else {}),
    }
    with _settings(settings):
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.getOrCreate()
        try:
            yield spark
        finally:
            spark.stop()


def _authentication(secret: str) -> dict[str, str]:
    return {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secret,
        "spark.network.crypto.enabled": "true",
        "spark.network.crypto.saslFallback": "false",
        "spark.master.rest.enabled": "false",
    }


@contextlib.contextmanager
def _settings(settings: Mapping[str, str]) -> Iterator[str]:
    """Set the variables by which Spark finds its settings and this Python; give the folder of these, which is ours."""
    home = _spark_home()
    folder = tempfile.mkdtemp(prefix="slurm-tf-spark-")
    before = dict(os.environ)
    try:
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        files.write_whole(_properties(folder), text.encode())
        files.write_whole(os.path.join(folder, "log4j2.properties"), _LOGGING.encode())
        os.environ.update(
            SPARK_HOME=home,
            SPARK_CONF_DIR=folder,
            # where pages of the master and of workers are
            SPARK_LOCAL_IP=_LOOPBACK,
            SPARK_DAEMON_MEMORY=f"{_DAEMON}m",
            PYSPARK_PYTHON=sys.executable,
            PYSPARK_DRIVER_PYTHON=sys.executable,
            PYTHONPATH=os.pathsep.join(path for path in sys.path if path),
            # JDK 17 fails where it looks at cgroups of version 1
            JAVA_TOOL_OPTIONS=f"-XX:-UseContainerSupport {before.get('JAVA_TOOL_OPTIONS', '')}".strip(),
        )
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _properties(folder: str) -> str:
    return os.path.join(folder, "spark-defaults.conf")


def _spark_home() -> str:
    """Return the folder of pyspark. Raises ConfigError without it, and without pandas or a JDK."""
    for package in ("pyspark", "pandas"):  # pyspark has no Arrow without pandas
        if importlib.util.find_spec(package) is None:
            do = "pip install 'slurm-tf[spark]', or engine = \"duckdb\""
            raise ConfigError(f"{package} is not installed", "pyspark and pandas, with which Spark runs", do)
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        do = "load the module of a JDK 17 in the job's setup, or set JAVA_HOME"
        raise ConfigError("there is no java", "a JDK, on which Spark runs", do)
    import pyspark

    return str(os.path.dirname(pyspark.__file__))
