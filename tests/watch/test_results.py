"""Results: a sweep of 24 points, two of which failed, against the files that its points wrote."""

import csv
import html.parser
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from slurm_tf.cli import results_tables, terminal
from slurm_tf.cli.terminal import Screen
from slurm_tf.run import attempts, manifest, progress, status
from slurm_tf.run.attempts import Attempt
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import ArrayShape
from slurm_tf.run.status import AttemptState, RunStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import results, results_page, results_rows
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.results import Goal, Result
from tests.watch.conftest import MakeRun, Slurm, record

STARTED = datetime(2026, 11, 27, 12).astimezone()
POINTS = {
    str(number): {"rate": rate, "units": units}
    for number, (rate, units) in enumerate((rate, units) for rate in (0.1, 0.2, 0.4) for units in range(16, 144, 16))
}
FAILED = (5, 17)


def train(folder: RunFolder, rate: float, units: int, epochs: int) -> None:
    """Report as a program does: with slurm_tf.train's own writer."""
    Path(folder.path).mkdir(mode=0o700, exist_ok=True)
    writer = progress.ProgressWriter(folder.progress, "7.0/0", lambda: None, print)
    for epoch in range(1, epochs + 1):
        loss = math.exp(-rate * epoch) * 16 / units + rate * epoch / 50
        writer.add(100 * epoch, {"loss": loss, "val_accuracy": 1 - loss / 2})
    writer.flush()


@pytest.fixture
def sweep(make_run: MakeRun) -> SelectedRun:
    """Return a sweep of 24 points; two have failed after their third epoch."""
    run = make_run("sweep-1", ("7", tuple(range(24)), True), array=ArrayShape(4, True, POINTS))
    for path in (run.run.manifest, run.run.submission(1).manifest):
        manifest.write(path, replace(manifest.read(path), params={"epochs": 20}, cpus=4, gpus=1))
    for number in range(24):
        train(run.run.point(number), **POINTS[str(number)], epochs=3 if number in FAILED else 20)  # type: ignore[arg-type]
    return run


@pytest.fixture
def read(slurm: Slurm, sweep: SelectedRun) -> list[Result]:
    slurm.past = [
        record(
            f"7_{number}",
            JobState.FAILED if number in FAILED else JobState.COMPLETED,
            exit_code=int(number in FAILED),
            started=STARTED,
            ended=STARTED + timedelta(minutes=30 + number),
        )
        for number in range(24)
    ]
    return results.read(slurm, [sweep])


def written(run: SelectedRun) -> list[list[dict[str, float]]]:
    """Return the metrics of each line of each point's file."""
    paths = [Path(run.run.path, str(number), "progress.jsonl") for number in range(24)]
    return [[json.loads(line)["values"] for line in path.read_text().splitlines()] for path in paths]


def test_the_text(read: list[Result], golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    text = results_tables.text(results.ordered(read, "val_accuracy"), "val_accuracy")
    monkeypatch.setattr(terminal, "screen", lambda: Screen(72, colour=False))
    narrow = results_tables.text(results.ordered(read, "rate")[:3], "loss")
    text = f"{text}\n{narrow}"
    golden("results.txt", text)
    assert max(map(len, narrow.splitlines())) <= 72


def test_the_csv_has_what_the_points_wrote(read: list[Result], sweep: SelectedRun) -> None:
    rows = list(csv.DictReader(results_tables.comma_separated(read)))
    assert [row["run"] for row in rows] == [f"sweep-1/{number}" for number in range(24)]
    for number, (row, lines) in enumerate(zip(rows, written(sweep), strict=True)):
        assert float(row["loss"]) == lines[-1]["loss"]
        assert float(row["min loss"]) == min(line["loss"] for line in lines)
        assert float(row["max val_accuracy"]) == max(line["val_accuracy"] for line in lines)
        assert {name: float(row[name]) for name in ("rate", "units")} == POINTS[str(number)]
        assert (row["epochs"], row["step"]) == ("20", "300" if number in FAILED else "2000")
        assert row["state"] == ("FAILED" if number in FAILED else "COMPLETED")
        assert float(row["seconds"]) == 60 * (30 + number)
        assert float(row["cpu_hours"]) == 4 * float(row["gpu_hours"]) == 4 * (30 + number) / 60


def test_the_json_is_typed(read: list[Result], sweep: SelectedRun) -> None:
    found = json.loads(json.dumps(results_tables.as_dict(read[5])))
    lines = written(sweep)[5]
    assert found["params"] == {"rate": 0.1, "units": 96, "epochs": 20}
    assert (found["run"], found["state"], found["failed"], found["step"]) == ("sweep-1/5", "FAILED", True, 300)
    assert found["metrics"]["loss"] == {
        "last": lines[-1]["loss"], "best": lines[-1]["loss"], "best_step": 300, "goal": "min",
    }  # fmt: skip


class Parsed(html.parser.HTMLParser):
    """The text of each cell, each row's class, and the tooltip and the number of points of each curve."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.rows: list[list[str]] = []
        self.curves: list[tuple[str, int]] = []
        self._points = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.classes.append(values.get("class") or "")
        if tag == "polyline":
            self._points = len((values["points"] or "").split())

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("td", "th") and data.strip():
            self.rows[-1].append(data)
        if self.tags[-1:] == ["title"] and self._points:
            self.curves.append((data, self._points))
            self._points = 0


def test_the_page(read: list[Result], sweep: SelectedRun, tmp_path: Path) -> None:
    results_page.write(tmp_path / "r.html", results.ordered(read, "val_accuracy"), "val_accuracy")
    text = (tmp_path / "r.html").read_text()
    page = Parsed(text)
    heads, *rows = page.rows
    columns = results_rows.columns(results.ordered(read, "val_accuracy"), "val_accuracy")
    assert heads == [column.head for column in columns]
    assert rows == [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    bad = [row[0] for row, kind in zip(page.rows, page.classes, strict=True) if kind == "bad"]
    assert sorted(bad) == ["sweep-1/17", "sweep-1/5"]
    assert len(page.curves) == 48
    points = {title.partition(" ")[0]: number for title, number in page.curves}
    assert points == {f"sweep-1/{number}": len(lines) for number, lines in enumerate(written(sweep))}
    best = max(range(24), key=lambda number: max(line["val_accuracy"] for line in written(sweep)[number]))
    assert page.curves[23][0].startswith(f"sweep-1/{best} (rate="), "the best curve lies on top"
    assert text.count(", in colour the first 8 of 24 by it") == 4
    assert not {"script", "link", "img"} & set(page.tags)
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("name", "goal"),
    [
        ("loss", Goal.MIN), ("val_loss", Goal.MIN), ("mean_squared_error", Goal.MIN), ("accuracy_loss", Goal.MIN),
        ("binary_crossentropy", Goal.MIN), ("val_accuracy", Goal.MAX), ("top_k_categorical_accuracy", Goal.MAX),
        ("AUC", Goal.MAX), ("f1_score", Goal.MAX), ("evaluator_accuracy", Goal.MAX), ("learning_rate", Goal.UNKNOWN),
        ("maplike", Goal.UNKNOWN), ("", Goal.UNKNOWN),
    ],
)  # fmt: skip
def test_which_values_are_better(name: str, goal: Goal) -> None:
    assert results.goal(name) is goal


def test_several_runs_with_other_params_nan_and_an_evaluator(make_run: MakeRun, slurm: Slurm) -> None:
    one, two, three = make_run("a-1"), make_run("b-1"), make_run("c-1")
    for selected, params in ((one, {"rate": 1, "x": "é\x1b"}), (two, {"units": 3, "x": "é\x1b"})):
        manifest.write(selected.run.manifest, replace(manifest.read(selected.run.manifest), params=params))
    writer = progress.ProgressWriter(one.run.progress, "a", lambda: None, print)
    writer.add(1, {"loss": 0.5, "[b]\x1b": 0.1})
    writer.add(2, {"loss": math.nan, "[b]\x1b": 0.2})
    writer.flush()
    evaluator = progress.ProgressWriter(two.run.evaluator_progress, "b", lambda: None, print)
    evaluator.add(7, {"accuracy": 0.75})
    status.write(two.run, RunStatus("b-1", "", 0, "n", 0.0, AttemptState.ENDED, 0, 3))
    attempts.write(two.run, [Attempt("1.0", "", 100.0, saved=130.0), Attempt("1.1", "", 200.0, ended=260.0)])
    found = results.read(slurm, [one, two, three])
    assert results.all_metrics(found) == ["loss", "[b]\x1b", "evaluator_accuracy"]
    assert results.main_metric(found) == "evaluator_accuracy"
    assert [each.name for each in results.ordered(found, "loss")] == ["a-1", "b-1", "c-1"]
    assert [each.name for each in results.ordered(found, "units")] == ["b-1", "a-1", "c-1"]
    assert found[1].seconds == 90, "what was killed counts until it last saved"
    assert (
        results_tables.text(found, "evaluator_accuracy")
        == """\
RUN  rate  x   units  STATE          STEP  max evaluator_accuracy  evaluator_accuracy  min loss  loss  [b]?  TIME
a-1  1     é?  -      not submitted  2     -                       -                   0.5       nan   0.2   -
b-1  -     é?  3      FAILED         7     0.75                    0.75                -         -     -     00:01:30
c-1  -     -   -      not submitted  -     -                       -                   -         -     -     -
best: max evaluator_accuracy 0.75 at step 7 of b-1
1 of 3 failed: b-1
"""
    )
