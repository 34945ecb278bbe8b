"""Asks nvidia-smi what devices do, and reads what it prints (drivers 450 to 580).

It is asked for the devices of one task alone, and by a query that costs little. Of a part of a GPU (MIG) only
`nvidia-smi -q -x` says what memory it uses, and nothing how busy it is.
"""

import contextlib
import os
import re
import subprocess
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple
from xml.etree import ElementTree

from slurm_tf.errors import DriverError
from slurm_tf.launch.agent.child import die_with
from slurm_tf.run.gpu_record import GpuState

_QUERY = "--query-gpu=name,utilization.gpu,memory.used,memory.total"
_VALUES = ("busy", "used", "total")
_ROW = re.compile("(?P<name>.+)" + "".join(rf", (?P<{each}>\d+|\[[^]]*\])" for each in _VALUES), re.ASCII)
_DEVICE = re.compile(r"\d+|GPU-[0-9a-fA-F-]+|MIG-[0-9a-zA-Z/-]+", re.ASCII)
# nvidia-smi -L: "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-...)", "  MIG 3g.20gb     Device  0: (UUID: MIG-...)"
_LISTED_GPU = re.compile(r"GPU (\d+):")
_LISTED_MIG = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)\s]+)\)")
# So long a killed nvidia-smi may take to end: one that waits for the driver cannot be killed.
_KILL_SECONDS = 5.0


class _MigDevice(NamedTuple):
    """A part of a GPU: the GPU's number, its own number on it, and its profile."""

    gpu: str
    number: str
    profile: str


def devices(visible: str) -> Tuple[str, ...]:
    """Return the devices in CUDA_VISIBLE_DEVICES: numbers and UUIDs, up to the first that is none, as CUDA does."""
    found: List[str] = []
    for each in map(str.strip, visible.split(",")):
        if not _DEVICE.fullmatch(each):
            break
        found.append(each)
    return tuple(found)


def sample(program: str, wanted: Sequence[str], seconds: float) -> Tuple[GpuState, ...]:
    """Return what the devices `wanted` do, of all that are visible where it is empty.

    `program`: the path of nvidia-smi. Each call of it may take `seconds`. Raises DriverError.
    """

    def ask(*options: str) -> str:
        return _run([program, *options], seconds)

    if any(each.startswith("MIG-") for each in wanted):
        return _of_mig(wanted, ask)
    chosen = [f"--id={','.join(wanted)}"] if wanted else []
    return parse(ask(*chosen, _QUERY, "--format=csv,noheader,nounits"))


def parse(text: str) -> Tuple[GpuState, ...]:
    """Return the devices in the answer to the query: "NVIDIA A100-SXM4-40GB, 87, 31012, 40960" each.

    A value that the driver does not have is a word in brackets, such as [N/A]. There may be warnings, such as one of a
    GPU whose infoROM is corrupted. Raises DriverError if there is no device.
    """
    rows = [_ROW.fullmatch(line.strip()) for line in text.splitlines()]
    found = tuple(GpuState(row["name"], *(_number(row[key]) for key in _VALUES)) for row in rows if row)
    if not found:
        raise DriverError(f"it printed {text.strip()[:100]!r}")
    return found


def _number(text: str) -> Optional[int]:
    digits = text.partition(" ")[0]
    return int(digits) if digits.isdigit() else None


def _of_mig(wanted: Sequence[str], ask: Callable[..., str]) -> Tuple[GpuState, ...]:
    known = parse_list(ask("-L"))
    missing = [each for each in wanted if each not in known]
    if missing:
        raise DriverError(f"it does not list {missing[0]}")
    parts = [known[each] for each in wanted]
    gpus = {gpu: ask("-q", "-x", f"--id={gpu}") for gpu in sorted({each.gpu for each in parts})}
    return tuple(parse_mig(gpus[each.gpu], each.number, each.profile) for each in parts)


def parse_list(text: str) -> Dict[str, _MigDevice]:
    """Return the parts of GPUs in the output of nvidia-smi -L, by their UUIDs."""
    found: Dict[str, _MigDevice] = {}
    gpu = ""
    for line in text.splitlines():
        heading, part = _LISTED_GPU.match(line), _LISTED_MIG.match(line)
        gpu = heading[1] if heading else gpu
        if part:
            found[part[3]] = _MigDevice(gpu, part[2], part[1])
    return found


def parse_mig(text: str, number: str, profile: str) -> GpuState:
    """Return a part of the GPU in the output of nvidia-smi -q -x. Raises DriverError."""
    try:
        gpu = ElementTree.fromstring(text).find("gpu")  # noqa: S314 - of the driver's own program
    except ElementTree.ParseError as error:
        raise DriverError(f"its XML cannot be read: {error}") from error
    parts = [] if gpu is None else gpu.findall("mig_devices/mig_device")
    part = next((each for each in parts if each.findtext("index") == number), None)
    if gpu is None or part is None:
        raise DriverError(f"its XML has no MIG device {number}")
    name = f"{gpu.findtext('product_name', '')} MIG {profile}"
    used, total = (_number(part.findtext(f"fb_memory_usage/{key}", "")) for key in ("used", "total"))
    return GpuState(name, None, used, total)


def _run(argv: Sequence[str], seconds: float) -> str:
    """Return what nvidia-smi prints. One that does not end is killed, and is not waited for if that takes long."""
    process = subprocess.Popen(
        list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - one thread
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)
        raise DriverError(f"it does not answer in {seconds:.0f} s", hangs=True) from error
    if process.returncode:
        raise DriverError(f"it ended with exit code {process.returncode}: {text.strip()[:200]}")
    return text
