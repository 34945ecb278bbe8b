"""What every verb prints, and its help, at three widths, with and without colours, and where there is no terminal.

A verb has a file in tests/golden/verbs/; those that print tables of runs, usage and storage are in tests/golden/tables/
as well (tests/watch/test_widths.py). Screens that show the same are named together.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from slurm_tf.cli.terminal import Screen
from tests.cli import scene
from tests.cli.scene import Scene
from tests.cli.test_alike import VERBS
from tests.watch.test_widths import IN_TABLES

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_WIDTHS = (60, 80, 200, None)
# What is typed to see something typical of each verb: what it prints, and what it says where that cannot be.
TYPED: dict[str, Sequence[str]] = {
    "attach": ["attach flowers-2 ps", "attach flowers-1", "attach flowers-2 --json"],
    "cancel": ["cancel flowers-2", "cancel rates-2"],
    "completion": ["completion fish | head -3", "completion csh"],
    "data compare": [
        "data compare ../data/1", "data compare ../data/2 ../data/1", "data compare ../data/1 --key petals",
    ],
    "data show": ["data show ../data/1", "data show ../data"],
    "data stats": ["data stats ../data/1", "data stats ../data/1 --split eval"],
    "data verify": ["data verify ../data/1", "data verify ../data/2", "data verify ../data/1 --quick"],
    "describe": ["describe flowers-1 | head -6", "describe rates-3"],
    "docs": ["docs", "docs submit", "docs sbumit"],
    "doctor": ["doctor"],
    "examples": ["examples jobs", "examples jobs"],
    "export": ["export flowers-1", "export flowers-1 --step soon", "export rates-1"],
    "images build": [
        "images build tf-2.18 tf.def --site lab", "images build tf-2.18 tf.def --site lab",
        "images build tf-2.19 broken.def --site lab", "images build tf-2.19 tf.def --site lab --json",
    ],
    "images list": ["images list --site lab", "images list --site lab --json | head -6", "images list --site generic"],
    "init": ["init -t cnn mine", "init plain.py", "init plain.py", "init"],
    "interrupt": ["interrupt flowers-2 --as kill --role worker --index 1", "interrupt flowers-1"],
    "launch": ["launch --roles worker=2", "launch --roles worker=2 -- python train.py"],
    "logs": ["logs flowers-1", "logs flowers-1 --role worker", "logs flowers-1 --json --lines 1", "logs flowers-2"],
    "page": ["page", "page --port=80 --socket=page"],
    "org add-user": [
        "org add-user daemon --org physics --gpus 1 --gpu-hours 10 --dry-run", "org add-user daemon --org physics",
        "org add-user alice --org physics", "org add-user daemon --org nlp",
    ],
    "org apply": ["org apply groups.toml --dry-run", "org apply flowers.toml"],
    "org create": ["org create chemistry --gpus 8", "org create physics", "org create Chemistry --gpus 8"],
    "org remove": ["org remove physics", "org remove lasers --cancel --dry-run"],
    "org remove-user": ["org remove-user alice --org physics", "org remove-user bob --org physics"],
    "org set": [
        "org set physics --user alice --gpus UNLIMITED --dry-run",
        "org set physics --user alice --gpus 3 --dry-run --json | head -3", "org set physics",
        "org set physics --user alice --gpus a100:x",
    ],
    "org show": ["org show", "org show physics --json | head -8", "org show chemistry"],
    "plugin horovod": ["plugin horovod"],
    "plugin task-prolog": ["plugin task-prolog --output prolog"],
    "preflight": ["preflight flowers.toml --site local", "preflight flowers.toml --test-only"],
    "predict": ["predict flowers --input '*.csv' --shards 0 --output out", "predict"],
    "prepare": [
        "prepare ../data/petals.toml --dry-run", "prepare ../data/petals.toml --check", "prepare flowers.toml --json",
        "prepare ../data/petals.toml --check --json", "prepare ../data/petals.toml --check --resume",
        "prepare --infer ../data/petals.csv", "prepare --infer flowers.xlsx",
    ],
    "quota": ["quota", "quota --json | head -8"],
    "render": ["render flowers.toml --site generic", "render flowers.toml --set time=soon"],
    "resubmit": ["resubmit rates-1 --failed", "resubmit rates-1", "resubmit flowers-2"],
    "run": ["run flowers.toml", "run flowers.toml --name flowers-1"],
    "schema": ["schema job | head -6", "schema recipe | head -6", "schema jobs"],
    "serve canary": ["serve canary models/petals/ 3 --percent 10", "serve canary models/petals/ 9 --percent 10"],
    "serve compare": ["serve compare flowers-1 1 2"],
    "serve connect": ["serve connect flowers-2", "serve connect petals"],
    "serve label": ["serve label models/petals/ stable=2", "serve label models/petals/ stable"],
    "serve promote": ["serve promote models/petals/ 2", "serve promote models/petals/ 2 --json"],
    "serve rollback": ["serve rollback models/petals/", "serve rollback models/petals/", "serve rollback no"],
    "serve start": ["serve no", "serve flowers.toml", "serve models/petals --site generic --dry-run | head -8"],
    "serve status": ["serve status flowers-1", "serve status no"],
    "serve stop": ["serve stop flowers-1"],
    "sites check": ["sites detect uni", "sites check uni", "sites check lab", "sites check local"],
    "sites detect": ["sites detect uni", "sites detect uni", "sites detect local"],
    "sites show": ["sites show lab"],
    "submit": ["submit flowers.toml --site generic", "submit flowers.toml --site local", "submit flower.toml"],
    "templates check": ["templates check --site generic", "templates check cmn"],
    "templates list": ["templates list"],
    "templates show": ["templates show cnn"],
    "tensorboard": ["tensorboard flowers-1", "tensorboard flowers-1 --mem=1G"],
    "wait": ["wait flowers-1", "wait rates-1", "wait flowers-2 --timeout 0"],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = scene.furnished()
    yield folder
    shutil.rmtree(folder.parent)


@pytest.fixture
def typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return Scene(folder, monkeypatch)


@pytest.mark.parametrize("verb", [" ".join(words) for words in VERBS])
def test_on_every_screen(verb: str, typed: Scene, golden: Callable[[str, str], None]) -> None:
    assert verb in TYPED or verb in IN_TABLES, f"add to TYPED what shows what {verb} prints"
    plain = [Screen(width, colour=False) for width in _WIDTHS]
    text = grouped({screen: typed.type([f"{verb} -h"], screen) for screen in plain})
    if verb in TYPED:
        shown = {screen: anew(typed, verb, screen) for screen in plain}
        assert "\x1b" not in "".join(shown.values())
        text += grouped(shown) + grouped(dict(in_colour(typed, verb, shown)))
    golden(f"verbs/{verb.replace(' ', '-')}.txt", text)


def anew(typed: Scene, verb: str, screen: Screen) -> str:
    typed.restore()
    return typed.type(TYPED[verb], screen)


def in_colour(typed: Scene, verb: str, plain: dict[Screen, str]) -> Iterator[tuple[Screen, str]]:
    """Yield what a terminal shows in colour; nothing of a verb that has none."""
    if "\x1b" not in anew(typed, verb, Screen(80, colour=True)):
        return
    for width in filter(None, _WIDTHS):
        shown = anew(typed, verb, Screen(width, colour=True))
        assert _ESCAPE.sub("", shown) == plain[Screen(width, colour=False)]
        yield Screen(width, colour=True), shown.replace("\x1b", "<ESC>")


def grouped(shown: dict[Screen, str]) -> str:
    """Return each text once, below the screens that show it."""
    texts = dict.fromkeys(shown.values())
    named = {text: [label(screen) for screen, each in shown.items() if each == text] for text in texts}
    return "".join(f"=== {', '.join(screens)}\n{text}" for text, screens in named.items())


def label(screen: Screen) -> str:
    where = "no terminal" if screen.width is None else f"{screen.width} columns"
    return f"{where} in colour" if screen.colour else where


def test_there_is_no_text_of_a_verb_that_is_gone() -> None:
    assert {*TYPED, *IN_TABLES} == set(map(" ".join, VERBS))
