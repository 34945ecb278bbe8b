"""Starts real database servers on a free port of this machine, with their data in a folder of their own."""

import glob
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests import free_ports

PASSWORD = "p@ss/w:ord%"


@dataclass(frozen=True)
class Server:
    """A server that runs. `execute`: the command that runs SQL, which is its last argument."""

    url: str
    execute: Sequence[str]
    process: "subprocess.Popen[bytes]"

    def run(self, sql: str) -> None:
        subprocess.run([*self.execute, sql], check=True, timeout=60, stdout=subprocess.DEVNULL)


@contextmanager
def mariadb() -> Iterator[Server]:
    """Give a MariaDB with the database shop and the user reader."""
    with _folder("mysql") as folder:
        port, _ = free_ports.free_range(1)
        socket = f"{folder}/socket"
        small = [
            "--no-defaults",
            f"--datadir={folder}/data",
            "--user=mysql",
            "--innodb-log-file-size=8M",
            "--skip-log-bin",
        ]
        root = ["--auth-root-authentication-method=socket", "--auth-root-socket-user=root", "--skip-test-db"]
        subprocess.run(["mariadb-install-db", *small, *root], check=True, timeout=120, stdout=subprocess.DEVNULL)
        command = [
            shutil.which("mariadbd") or "/usr/sbin/mariadbd", *small, f"--socket={socket}", f"--port={port}",
            "--bind-address=127.0.0.1", f"--pid-file={folder}/pid", "--performance-schema=OFF", "--skip-name-resolve",
        ]  # fmt: skip
        execute = ["mariadb", "--no-defaults", f"--socket={socket}", "--batch", "-e"]
        with _running(command, f"mysql://reader@127.0.0.1:{port}/shop", execute, None) as server:
            server.run(
                f"create database shop; create user reader@127.0.0.1 identified by '{PASSWORD}';"
                "grant select on shop.* to reader@127.0.0.1"
            )
            yield server


@contextmanager
def postgresql() -> Iterator[Server]:
    """Give a PostgreSQL with the database postgres and the user reader."""
    with _folder("postgres") as folder:
        port, _ = free_ports.free_range(1)
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        subprocess.run(
            [f"{programs}/initdb", "-D", f"{folder}/data", "--auth-local=trust", "--auth-host=scram-sha-256", "-N"],
            check=True, timeout=120, stdout=subprocess.DEVNULL, user="postgres", cwd=folder,
        )  # fmt: skip
        command = [f"{programs}/postgres", "-D", f"{folder}/data", "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        execute = [f"{programs}/psql", "-h", folder, "-p", str(port), "-U", "postgres", "-q", "-c"]
        with _running(command, f"postgresql://reader@127.0.0.1:{port}/postgres", execute, "postgres") as server:
            server.run(f"create user reader password '{PASSWORD}'")
            server.run("alter default privileges grant select on tables to reader")
            yield server


@contextmanager
def _folder(user: str) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="stf-database-")
    shutil.chown(folder, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(command: list[str], url: str, execute: list[str], user: str | None) -> Iterator[Server]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd="/")
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([*execute, "select 1"], capture_output=True, check=False, timeout=60).returncode:
            assert process.poll() is None, f"{os.path.basename(command[0])} has ended"
            assert time.monotonic() < deadline, f"{os.path.basename(command[0])} does not answer"
            time.sleep(0.1)
        yield Server(url, execute, process)
    finally:
        process.kill()
        process.wait(30)
