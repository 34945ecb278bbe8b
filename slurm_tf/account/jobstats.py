"""Reads what Princeton's jobstats writes into AdminComment: "JS1:" and a compressed summary of the job.

Sources: github.com/PrincetonUniversity/jobstats, and troycomi/reportseff, which reads it.
"""

import base64
import binascii
import json
import zlib

_LARGEST = 1 << 20
_GZIP = 31


def gpu_use(text: str) -> float | None:
    """Return the mean use of a job's GPUs in percent; None if the summary has none ("JS1:Short")."""
    try:
        packed = base64.b64decode(text.removeprefix("JS1:"), validate=True)
        plain = zlib.decompressobj(_GZIP).decompress(packed, _LARGEST)
        nodes = json.loads(plain)["nodes"].values()
        shares = [float(share) for node in nodes for share in node.get("gpu_utilization", {}).values()]
    except (binascii.Error, zlib.error, ValueError, KeyError, AttributeError, TypeError):
        return None
    return sum(shares) / len(shares) if shares else None
