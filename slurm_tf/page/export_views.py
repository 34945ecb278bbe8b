"""The view that exports the model of a run, as `slurm-tf export` does, and says how it goes."""

import os
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slurm_tf.errors import SlurmTfError, UsageError
from slurm_tf.page import event_streams, known_models, run_cache, run_rows
from slurm_tf.page.context import PageContext
from slurm_tf.page.export_process import ExportProcesses
from slurm_tf.run import checkpoint_folder
from slurm_tf.watch.find_run import SelectedRun


class ExportViews:
    """The view that exports, of runs and of points of sweeps."""

    def __init__(self, context: PageContext) -> None:
        self._context, self._exports = context, ExportProcesses()

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        paths = [f"{path}/export" for path in run_rows.RUN_ROUTES]
        return [
            *(Route(path, self.show) for path in paths),
            *(Route(path, self.start, methods=["POST"]) for path in paths),
        ]

    def show(self, request: Request) -> Response:
        """Show the form, and how the last export is."""
        return self._form(request, "")

    def start(self, request: Request) -> Response:
        """Start an export."""
        key, points = run_rows.named_points(request, self._context.runs)
        selected = run_cache.whole(points)
        form = request.state.form
        try:
            self._exports.start(selected.folder.path, _words(selected, form.get("step", ""), form.get("to", "")))
        except SlurmTfError as error:
            return self._form(request, str(error))
        address = run_rows.address(key, points)
        return RedirectResponse(f"{request.scope['root_path']}{address}/export", HTTPStatus.SEE_OTHER)

    def _form(self, request: Request, problem: str) -> Response:
        key, points = run_rows.named_points(request, self._context.runs)
        selected = run_cache.whole(points)
        state = self._exports.state(selected.folder.path)
        bases = known_models.bases(self._context.runs.look(wait=False))
        base = os.path.dirname(state.version) if state else ""
        values = {
            "title": f"Export of {selected.name}",
            "address": run_rows.address(key, points),
            "steps": _steps(selected),
            "bases": bases,
            "problems": problem.splitlines(),
            "state": state,
            "said": event_streams.printable("\n".join(state.lines)) if state else "",
            "model": known_models.key_of(base) if base in bases else "",
        }
        return self._context.answer(request, "export", values, HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK)


def _words(selected: SelectedRun, step: str, to: str) -> list[str]:
    """Return the options of the verb. Raises UsageError."""
    if step and step not in _steps(selected):
        raise UsageError(f"found the step {step[:20]!r}", "one of a whole checkpoint")
    if not to.isprintable():
        raise UsageError("found a folder with control characters", "the path of a folder")
    return [*([f"--step={step}"] if step else []), *([f"--to={to}"] if to else [])]


def _steps(selected: SelectedRun) -> list[str]:
    """Return the steps of the whole checkpoints of a run or point, the newest first."""
    try:
        return [str(found.step) for found in checkpoint_folder.complete(selected.folder.checkpoints)]
    except OSError:
        return []
