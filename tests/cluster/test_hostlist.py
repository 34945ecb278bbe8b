"""Node list expressions, as Slurm's own scontrol expands them."""

import random

import pytest

from slurm_tf.slurm import hostlist
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

EXPRESSIONS, EACH_CALL = 3000, 100


def expression(choose: random.Random) -> str:
    """Return an expression of one to four dimensions, with ranges in any order, widths and overlaps."""
    text = choose.choice(["n", "gpu-", "a1b", "x.y"])
    for dimension in range(choose.randint(1, 4)):
        ranges = []
        for _ in range(choose.randint(1, 2)):
            low, width = choose.choice([0, 1, 8, 9, 98]), choose.choice([1, 1, 2, 3])
            high = low + choose.randint(0, 2)
            ranges.append(f"{low:0{width}}" if choose.random() < 0.3 else f"{low:0{width}}-{high}")
        text += choose.choice(["", "c", "-r"]) * (dimension > 0) + f"[{','.join(ranges)}]"
    return text


def test_3000_expressions_in_slurms_own_order(sandbox: Sandbox) -> None:
    choose = random.Random(14)
    texts = [expression(choose) for _ in range(EXPRESSIONS)]
    # an expression a line, and a name after each that none has
    calls = [texts[start : start + EACH_CALL] for start in range(0, EXPRESSIONS, EACH_CALL)]
    script = "\n".join(f"scontrol show hostnames '{','.join(f'{text},end' for text in call)}'" for call in calls)
    printed = sandbox.run("sh", "-c", script, timeout=300).stdout.removesuffix("end\n").split("end\n")
    assert len(printed) == EXPRESSIONS
    for text, names in zip(texts, printed, strict=True):
        assert list(hostlist.expand(text)) == names.split(), text
