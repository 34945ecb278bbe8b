"""The forms by which an operator of Slurm makes and changes organizations, as the verb `org` does: first the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slurm_tf.errors import SlurmTfError
from slurm_tf.org import org_updates, organizations, quota_words
from slurm_tf.org.org_updates import Site, Update
from slurm_tf.page.context import PageContext

_LIMITS = {
    "gpus": "GPUs at a time: 8, a100:4 or a100:4,v100:8",
    "cpus": "CPUs at a time",
    "mem": "memory at a time, such as 512G",
    "gpu-hours": "GPU-hours of all jobs together",
    "max-time": "the longest time limit of a job, as sbatch --time",
    "gpus-per-job": "GPUs of one job",
}


@dataclass(frozen=True, slots=True)
class OrgForm:
    """One form: its title, and the fields before those of the limits, each with what it is."""

    title: str
    fields: Mapping[str, str]


_FORMS = {
    "create": OrgForm(
        "Create an organization", {"name": "name: small letters, digits, _, . and -", "parent": "above it; empty: none"}
    ),
    "add-user": OrgForm("Add a user", {"user": "a user of this machine", "name": "the organization"}),
    "set": OrgForm(
        "Change limits", {"name": "the organization", "user": "a user in it; empty: the limits of the organization"}
    ),
}


class OrgViews:
    """The forms of organizations. Slurm itself refuses who may not change them, before anything is done."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [
            Route("/organizations/remove", self.ask_remove),
            Route("/organizations/remove", self.remove, methods=["POST"]),
            Route("/organizations/{verb}", self.ask),
            Route("/organizations/{verb}", self.plan_or_make, methods=["POST"]),
        ]

    def ask(self, request: Request) -> Response:
        """Show a form; the query may have values for its fields."""
        name, user = _named(request.query_params)
        is_known = request.path_params["verb"] == "set" and name
        now = quota_words.limits_in_slurm(organizations.read().named(name), user) if is_known else ""
        return self._form(request, request.query_params, now=now)

    def plan_or_make(self, request: Request) -> Response:
        """Show what would be done, or do it."""
        form = request.state.form
        try:
            update = _update(org_updates.ask(), request.path_params["verb"], form)
            if form.get("do") != "make":
                plan = [each.words for each in update.changes] or ["nothing to change"]
                return self._form(request, form, plan=plan)
            done: list[str] = []
            org_updates.make(update, cancel=False, say=done.append)
        except SlurmTfError as error:
            return self._form(request, form, problem=str(error))
        return self._done(request, done, form.get("name", "").strip())

    def ask_remove(self, request: Request) -> Response:
        """Show what the removal of an organization, or of a user from one, would do, and which jobs it would end."""
        return self._removal(request, request.query_params)

    def remove(self, request: Request) -> Response:
        """Remove an organization, or a user from one; jobs in the queue are cancelled first if that was ticked."""
        form = request.state.form
        name, user = _named(form)
        done: list[str] = []
        try:
            update = org_updates.remove(org_updates.ask(), name, user)
            if update.jobs and "cancel" not in form:
                return self._removal(request, form, "jobs are in the queue: tick the box to have them cancelled")
            org_updates.make(update, cancel="cancel" in form, say=done.append)
        except SlurmTfError as error:
            return self._removal(request, form, str(error))
        return self._done(request, done, name if user else "")

    def _removal(self, request: Request, form: Mapping[str, str], problem: str = "") -> Response:
        """Show what a removal would do, and a button that does it."""
        name, user = _named(form)
        plan: list[str] = []
        jobs: tuple[str, ...] = ()
        try:
            update = org_updates.remove(org_updates.ask(), name, user)
            plan, jobs = [each.words for each in update.changes], update.jobs
        except SlurmTfError as error:
            problem = problem or str(error)
        values = {
            "title": f"Remove {user} from {name}" if user else f"Remove organization {name}",
            "name": name,
            "user": user,
            "plan": plan,
            "jobs": jobs,
            "problems": problem.splitlines(),
        }
        return self._context.answer(request, "org_remove", values, HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK)

    def _done(self, request: Request, done: Sequence[str], name: str) -> Response:
        """Show the organization, or all, with a line of what was done."""
        self._context.sessions.put_note(request.state.cookie, f"Done: {'; '.join(done) or 'nothing was to be changed'}")
        query = f"?{urlencode({'name': name})}" if name else ""
        return RedirectResponse(f"{request.scope['root_path']}/organizations{query}", HTTPStatus.SEE_OTHER)

    def _form(
        self, request: Request, form: Mapping[str, str], problem: str = "", plan: object = (), now: str = ""
    ) -> Response:
        shape = _FORMS.get(request.path_params["verb"])
        if shape is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is {', '.join(_FORMS)}")
        fields = {**shape.fields, **_LIMITS}
        values = {
            "title": shape.title,
            "fields": [(name, about, form.get(name, "")) for name, about in fields.items()],
            "problems": problem.splitlines(),
            "plan": plan,
            "now": now,
        }
        return self._context.answer(request, "org_form", values, HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK)


def _named(form: Mapping[str, str]) -> tuple[str, str]:
    """Return the organization and the user, "" for none, that a form names."""
    return form.get("name", "").strip(), form.get("user", "").strip()


def _update(site: Site, verb: str, form: Mapping[str, str]) -> Update:
    """Return what a form asks for. Raises UsageError, UnitError or OrganizationError."""
    limits = {name: form[name].strip() for name in _LIMITS if form.get(name, "").strip()}
    name, user = _named(form)
    if verb == "create":
        return org_updates.create(site, name, form.get("parent", "").strip() or "root", limits)
    if verb == "add-user":
        return org_updates.add_user(site, user, name, limits)
    return org_updates.set_limits(site, name, user, limits)
