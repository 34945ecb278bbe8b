"""The page on a real Slurm: what it says of jobs, what it does with them, how often Slurm is asked, and who gets in."""

import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from slurm_tf.models import serving_file
from slurm_tf.run import progress
from tests.cluster.group import SLURM_TF, Member
from tests.cluster.test_verbs import job
from tests.models.test_model_versions import write_version
from tests.page import browser
from tests.page.browser import Browser
from tests.page.digits import write_digits
from tests.page.running_page import Answer, RunningPage, started, tunnel
from tests.page.test_browser import captions, wait
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

# a squeue that notes when it was called
_SQUEUE = '#!/bin/sh\necho "$(date +%s.%N) $*" >> {notes}\nexec /usr/bin/squeue "$@"\n'
_REACH = (
    "import http.client, socket, sys\n"
    "c = http.client.HTTPConnection('localhost', int(sys.argv[2] or 80))\n"
    "if sys.argv[1]: c.sock = socket.socket(socket.AF_UNIX); c.sock.connect(sys.argv[1])\n"
    "for path in sys.argv[3:]:\n"
    "    c.request('GET', path)\n    a = c.getresponse()\n    print(a.status, a.read().decode())\n    c.close()\n"
)


@contextmanager
def page_of(member: Member, *words: str) -> Iterator[RunningPage]:
    """Start `slurm-tf page` of a user on the login node; its squeue notes each call in the file `asked`."""
    folder = member.folder
    member.run("mkdir", "-p", "bin")
    member.write("bin/squeue", _SQUEUE.format(notes=folder / "asked"))
    os.chmod(folder / "bin" / "squeue", 0o755)
    environ = {**member.environ(), "PATH": f"{folder}/bin:{member.environ()['PATH']}"}
    pipe = subprocess.PIPE
    command = [*SLURM_TF, "page", "--json", *words]
    process = member.sandbox.popen(
        *command,
        user=member.user,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    with started(process) as page:
        yield page


def asked_for_all(member: Member) -> list[float]:
    """Return when squeue was asked for both runs; what is done with one run asks for it alone."""
    lines = (member.folder / "asked").read_text().splitlines()
    return [float(line.split()[0]) for line in lines if re.search(r"--jobs=\d+,\d+ ", line)]


def until(page: RunningPage, path: str, words: str, seconds: float = 60.0) -> Answer:
    """Load a view until it has these words."""
    deadline = time.monotonic() + seconds
    while True:
        answer = page.get(path)
        if words in answer.text:
            return answer
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)


def address(page: RunningPage, name: str) -> str:
    text = until(page, "/", f'/{name}"').text
    return next(each for each in text.split('"') if each.endswith(f"/{name}")).removeprefix(page.prefix)


def test_runs_are_seen_cancelled_and_submitted_again_and_slurm_is_asked_once_for_all(alice: Member) -> None:
    alice.submit(job(alice, "sleep 300"))
    alice.submit(job(alice, "true", "b"), "--hold")
    alice.wait_for("a-1", "state", "RUNNING")
    socket = alice.folder / "page"
    with page_of(alice, f"--socket={socket}") as page:
        assert page.open().status == 200
        until(page, "/", '<span class="state running">running</span>')
        assert "it is held: scontrol release lets it start" in page.get("/").text
        at = address(page, "a-1")
        for _ in range(20):
            page.get("/")
            page.get(at)
        with page.events(f"{at}/events") as events:
            name, data, _ = next(events)
            assert (name, data["state"]) == ("state", "running")
            assert len(asked_for_all(alice)) == 1
            done = page.post(f"{at}/cancel", {"form_token": page.get(f"{at}/cancel").form_token})
            assert done.status == 303
            assert "Slurm was told to cancel" in page.get(at).text
            # the first state of the run that is another one, and then its end
            states = [name for name, _, _ in events]
        assert states[-1] == "over"
        assert "cancelled" in page.get(at).text
        form = page.get(f"{at}/resubmit")
        assert "Submit 1 jobs again with the same code?" in form.text
        assert page.post(f"{at}/resubmit", {"form_token": form.form_token}).status == 303
        until(page, at, '<span class="state running"')
        nodes = page.get("/cluster").text
        assert re.search(r"<dt>GPUs</dt><dd>\d+ of 16 in use</dd>", nodes)
        assert re.search(r">node1</td><td [^>]*>\w+</td><td [^>]*>0 of 4</td>", nodes)
        # accounting hears of an end late, and a report is shown again for a minute
        until(page, "/usage?by=state&days=7", "CANCELLED", 150)
        assert "What your jobs used, by template" in page.get("/usage?days=7").text
        text = page.get(f"{at}/efficiency").text
        assert re.search(r"<dt>Incarnations</dt><dd>\d+ \(.*1 cancelled", text)
        assert re.search(r'<td data-head="Resource">time</td><td data-head="Asked for">\S+</td>', text)
        assert "no advice to ask for less" in text  # it did not run for long
        deadline = time.monotonic() + 90
        while len(times := asked_for_all(alice)) < 3 and time.monotonic() < deadline:
            page.get("/")
            time.sleep(0.5)
        assert len(times) >= 3
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 15


def test_another_user_of_the_node_gets_nothing(
    sandbox: Sandbox, alice: Member, member: Callable[[str], Member]
) -> None:
    bob = member("bob")

    def reach(*words: str) -> "subprocess.CompletedProcess[str]":
        return sandbox.run("/usr/bin/python3", "-c", _REACH, *words, user="bob", cwd=bob.folder, check=False)

    path = sandbox.shared / "page" / "socket"
    with page_of(alice, f"--socket={path}") as page:
        assert page.open().status == 200
        # not even where the folder is opened to all
        os.chmod(Path(path).parent, 0o755)
        refused = reach(str(path), "", "/")
        assert "PermissionError" in refused.stderr
        assert refused.stdout == ""


@pytest.mark.long
def test_another_user_of_the_node_gets_nothing_from_the_port(
    sandbox: Sandbox, alice: Member, member: Callable[[str], Member]
) -> None:
    bob = member("bob")
    alice.submit(job(alice, "true"))
    with page_of(alice) as page:
        paths = ["/", f"{page.prefix}/", f"{page.prefix}/runs/0/a-1", f"{page.prefix}/open?link=x"]
        words = ("", str(page.port), *paths)
        answers = sandbox.run("/usr/bin/python3", "-c", _REACH, *words, user="bob", cwd=bob.folder).stdout
        assert [line.split()[0] for line in answers.splitlines() if line[:3].isdigit()] == ["404", "401", "401", "403"]
        assert "a-1" not in answers
        seen = sandbox.run("ps", "-eo", "args", user="bob").stdout
        assert "slurm_tf page" in seen
        assert page.link.partition("link=")[2] not in seen


def test_a_service_is_started_shown_and_stopped(alice: Member, tmp_path: Path) -> None:
    alice.submit(job(alice, "true"))
    version = write_version(tmp_path / "model")
    shutil.copytree(version, alice.folder / "runs" / "a-1" / "export" / version.name)
    give(alice, alice.folder / "runs" / "a-1" / "export")
    with page_of(alice, f"--socket={alice.folder}/page") as page:
        assert page.open().status == 200
        text = until(page, "/models", ">a-1</a>").text
        model = re.findall(rf'href="{page.prefix}(/models/\w+)">a-1</a>', text)[0]
        fields = {"form_token": page.get(f"{model}/serve").form_token, "sbatch.time": "10", "sbatch.mem": "1500M"}
        checked = page.post(f"{model}/serve", {**fields, "do": "check"})
        assert re.search(r"Job \d+ to start at", checked.text)
        started = page.post(f"{model}/serve", {**fields, "do": "submit"})
        assert started.status == 303
        service = started.headers["location"].removeprefix(page.prefix)
        # the job that takes over waits behind the first one
        text = until(page, service, "Dependency").text
        assert "Jobs that are not over" in text
        assert "0 answering" in text
        assert "nobody will answer" not in text
        assert f'href="{page.prefix}{service}">a-1-1</a> no replica answers; job' in page.get(model).text
        form = page.get(f"{service}/stop")
        assert "Stop the service a-1-1 for good?" in form.text
        assert page.post(f"{service}/stop", {}).status == 403
        assert page.post(f"{service}/stop", {"form_token": form.form_token}).status == 303
        text = until(page, service, "No job of it is left: nobody answers").text
        (last,) = re.findall(r"The last one: (.*)</p>", text)
        assert re.fullmatch(r"\d+ CANCELLED: .*cancel.*", last)
    assert {each["state"] for each in alice.status("a-1-1")} == {"CANCELLED"}


def give(member: Member, folder: Path) -> None:
    """Make a folder and all in it the member's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, member.folder.stat().st_uid, member.folder.stat().st_gid)


@pytest.mark.tensorflow
def test_a_person_without_code_trains_a_network_on_a_data_set_and_sees_its_curve(alice: Member) -> None:
    write_digits(alice.folder / "data" / "digits")
    give(alice, alice.folder / "data")
    socket = alice.folder / "page"
    with page_of(alice, f"--socket={socket}") as page, tunnel(str(socket)) as port, browser.started() as chromium:
        chromium.get(page.link.replace("PORT", str(port)))
        wait(lambda: chromium.title == "Runs - slurm-tf")
        chromium.find_element(By.LINK_TEXT, "Data sets").click()
        chromium.find_element(By.PARTIAL_LINK_TEXT, "digits").click()
        chromium.find_element(By.LINK_TEXT, "Train a standard network on it").click()
        chromium.find_element(By.ID, "param.epochs").send_keys("60")
        chromium.find_element(By.CSS_SELECTOR, "button[value=check]").click()
        wait(lambda: "It takes at most" in chromium.page_source, 60)
        assert re.search(r"Job \d+ to start at", chromium.page_source)
        chromium.find_element(By.CSS_SELECTOR, "button[value=submit]").click()
        wait(lambda: chromium.title.startswith("network-1"), 60)
        assert "Submitted as job" in chromium.page_source
        # the curve of a training moves while it is looked at
        wait(lambda: "val_accuracy" in captions(chromium), 120)
        (run,) = (alice.folder / "runs").iterdir()
        step = steps_shown(chromium)
        wait(lambda: steps_shown(chromium) > step, 60)
        last = progress.read(f"{run}/progress.jsonl")[-1].step
        wait(lambda: steps_shown(chromium) >= last)
        wait(lambda: chromium.find_element(By.CSS_SELECTOR, "[data-live=state]").text == "completed", 180)
        chromium.get(f"{chromium.current_url}/log")
        assert float(re.findall(r"test accuracy ([\d.]+)", chromium.find_element(By.ID, "log").text)[0]) > 0.9
        chromium.find_element(By.LINK_TEXT, "Models").click()
        chromium.find_element(By.LINK_TEXT, "network-1").click()
        assert "answers requests that name no version" in chromium.page_source
        chromium.find_element(By.XPATH, "//button[text()='Promote version 1']").click()
        wait(lambda: serving_file.read(f"{run}/export").promoted == 1)
        wait(lambda: "version 1 answers" in chromium.page_source)
        assert chromium.problems() == []
        root = f"http://localhost:{port}{page.prefix}"
        for path in ("/", "/data", "/quota", "/organizations", "/cluster", "/usage", "/usage?by=account"):
            chromium.get(f"{root}{path}")
            for width in (browser.PHONE, browser.DESK):
                chromium.resize(width)
                assert chromium.too_wide == 0, (path, width)
            assert "This did not work" not in chromium.title, path


def steps_shown(chromium: Browser) -> int:
    return max((int(step) for step in re.findall(r"at step (\d+)", captions(chromium))), default=-1)
