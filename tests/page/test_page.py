"""The page as a process: what it answers of runs, what it streams, and what others get from it."""

import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_tf.run import progress
from slurm_tf.run.folder import RunFolder
from tests.page.running_page import RunningPage, running_page
from tests.page.runs import make_sweep, make_training, report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run that trains, a sweep, and a run with a hostile name; no Slurm knows of their jobs."""
    path = tmp_path_factory.mktemp("page")
    make_training(path, "flowers-1", "7", 500)
    make_training(path, "<script>alert(1)</script>-1".replace("/", "|"), "8")
    make_sweep(path, "rates-1", "9")
    make_training(path, "live-1", "70", 20)
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[RunningPage]:
    """Return the page of these runs, which is open in one browser."""
    with running_page(folder, **own_folders(folder)) as started:
        assert started.open().status == 200
        yield started


def own_folders(folder: Path) -> dict[str, str]:
    return {f"XDG_{name}_HOME": str(folder / f".{name.lower()}") for name in ("STATE", "CONFIG", "CACHE")}


def address(page: RunningPage, name: str) -> str:
    """Return the address of a run, from the list."""
    found = re.search(rf'href="{page.prefix}(/runs/\w+/{name})"', page.get("/").text)
    assert found
    return found[1]


def test_the_list_says_what_is_known_and_what_is_not(page: RunningPage) -> None:
    answer = page.get("/")
    assert answer.status == 200
    assert "4 runs" in answer.text
    assert ">flowers-1</a>" in answer.text
    assert '<span class="state unknown">unknown</span>' in answer.text
    assert "slurmctld does not answer" in answer.text
    assert "0/4 done, 4 unknown" in answer.text
    assert "best: max val_accuracy" in answer.text
    assert "500 of 1000" in answer.text
    assert "<script>alert" not in answer.text


def test_the_list_finds_by_name_and_state(page: RunningPage) -> None:
    assert "1 of 4 runs" in page.get("/?name=FLOWERS").text
    assert "0 of 4 runs" in page.get("/?show=failed").text
    assert "4 runs" in page.get("/?show=living&page=99").text


def test_a_run_has_its_state_curves_logs_and_attempts(page: RunningPage) -> None:
    text = page.get(address(page, "flowers-1")).text
    for words in (
        "loss 0.086294 at step 490", "<polyline", ">Output of the job</a>", ">worker:1</a>", "preemption", "100-200",
        "Cancel ...", "gpu001",
    ):  # fmt: skip
        assert words in text, words


def test_a_sweep_has_its_points_and_a_comparison(page: RunningPage) -> None:
    at = address(page, "rates-1")
    assert "rates-1/2 (rate=0.025 units=32)" in page.get(at).text
    assert "loss 0.83763" in page.get(f"{at}/2").text
    text = page.get(f"{at}/compare").text
    assert '<th scope="col">Run</th><th scope="col">rate</th>' in text
    assert text.index("rates-1/0") < text.index("rates-1/1") < text.index("rates-1/3")
    assert "best: max val_accuracy" in text


def test_usage_that_slurm_does_not_say_is_an_error_with_its_words(page: RunningPage) -> None:
    answer = page.get("/usage?days=7&by=template")
    assert answer.status == 502
    assert "sacct" in answer.text
    for query in ("days=8", "by=--sql", "days=7;id"):
        assert page.get(f"/usage?{query}").status == 400


def test_a_log_is_text(page: RunningPage) -> None:
    at = address(page, "flowers-1")
    assert "[worker:0] &lt;b&gt;step&lt;/b&gt; 1\n" in page.get(f"{at}/log").text
    assert ">step 1 of 1\n" in page.get(f"{at}/log?task=worker:1").text
    assert page.get(f"{at}/log?task=worker:2").status == 400
    assert page.get(f"{at}/log?task=../../secret:0").status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/runs/0/flowers-1", "/nothing", "/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd",
        "/runs/%2e%2e/flowers-1", "/static/",
    ],
)  # fmt: skip
def test_there_is_nothing_beside_the_views(page: RunningPage, path: str) -> None:
    assert page.get(path).status == 404


def test_no_view_answers_another_browser(page: RunningPage) -> None:
    at = address(page, "flowers-1")
    known = page.cookie
    page.cookie = ""
    try:
        paths = ["/", at, f"{at}/events", f"{at}/log", f"{at}/log/events", f"{at}/cancel", "/static/page.js"]
        assert {page.get(path).status for path in paths} == {401}
        assert {page.post(f"{at}/{verb}", {}).status for verb in ("cancel", "resubmit")} == {401}
        assert {page.get(path, prefix="").status for path in paths} == {404}
    finally:
        page.cookie = known


def test_a_form_without_its_token_changes_nothing(page: RunningPage, folder: Path) -> None:
    at = address(page, "flowers-1")
    form = page.get(f"{at}/cancel")
    assert "Cancel flowers-1 for good?" in form.text
    assert page.post(f"{at}/cancel", {}).status == 403
    assert page.post(f"{at}/cancel", {"form_token": form.form_token}, {"Origin": "http://evil.example"}).status == 403
    assert page.get(f"{at}/cancel?form_token={form.form_token}").status == 200
    assert not os.path.exists(RunFolder(str(folder / "runs" / "flowers-1")).cancelled)


def test_what_slurm_refuses_is_said(page: RunningPage) -> None:
    at = address(page, "flowers-1")
    token = page.get(f"{at}/cancel").form_token
    assert page.get(f"{at}/resubmit").status == 400
    answer = page.post(f"{at}/resubmit", {"form_token": token})
    assert answer.status == 400
    assert "no job of run flowers-1 is over" in answer.text


def test_a_curve_follows_its_file_and_goes_on_where_it_was_cut_off(page: RunningPage, folder: Path) -> None:
    run, at = RunFolder(str(folder / "runs" / "live-1")), address(page, "live-1")
    with page.events(f"{at}/events") as events:
        first = {name: data for name, data, _ in (next(events), next(events))}
        assert first["state"]["state"] == "unknown"
        assert [row[0] for row in first["reports"]["rows"]] == [0, 10]
        assert first["reports"]["whole"] is True
        report(run, range(20, 21))
        name, data, last_id = next(events)
        assert (name, data["whole"], [row[0] for row in data["rows"]]) == ("reports", False, [20])
    report(run, range(30, 51, 10))
    with page.events(f"{at}/events", last_id) as events:
        rows = [data for name, data, _ in (next(events), next(events)) if name == "reports"]
        assert [row[0] for row in rows[0]["rows"]] == [30, 40, 50]
        # a restarted program does steps again: the file is replaced, and so is the curve
        kept = [each for each in progress.read(run.progress) if each.step <= 20]
        Path(run.progress).unlink()
        progress.ProgressWriter(run.progress, "70.1/0", lambda: None, print).add(kept[-1].step, {"loss": 2.0})
        name, data, _ = next(events)
        assert (name, data["whole"], data["rows"]) == ("reports", True, [[20, {"loss": 2.0}]])


def test_a_log_follows(page: RunningPage, folder: Path) -> None:
    at = address(page, "flowers-1")
    run = RunFolder(str(folder / "runs" / "flowers-1"))
    size = os.path.getsize(run.log("worker", 0))
    with page.events(f"{at}/log/events?task=worker:0&from={size}") as events:
        with open(run.log("worker", 0), "ab") as file:
            file.write("schö\x1b[2Kn\n".encode())
        assert next(events)[:2] == ("text", "schön\n")


def test_a_link_opens_one_browser_and_a_signal_prints_the_next(folder: Path) -> None:
    with running_page(folder, **own_folders(folder)) as page:
        assert page.get("/").status == 401
        assert page.open().status == 200
        assert page.get("/").status == 200
        other = RunningPage(page.process, page.port, page.socket, page.link)
        assert other.open().status == 403
        assert other.get("/").status == 401
        other.link = page.new_link()
        assert other.open().status == 200
        assert other.get("/").status == page.get("/").status == 200
        words = "".join(Path(f"/proc/{page.process.pid}/{name}").read_text() for name in ("cmdline", "environ"))
        assert not any(secret in words for secret in (page.cookie, page.link.partition("link=")[2]))
        page.process.terminate()
        assert page.process.wait(10) == 143


def test_a_socket_is_the_users_alone_and_goes_with_the_page(folder: Path) -> None:
    path = folder / "own" / "page.sock"
    with running_page(folder, f"--socket={path}", **own_folders(folder)) as page:
        assert page.port is None
        assert page.open().status == page.get("/").status == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        taken = verb(folder, f"--socket={path}")
        assert taken.returncode == 2
        assert f"a page listens on {path} already" in taken.stderr
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with running_page(folder, f"--socket={path}", **own_folders(folder)) as page:
        assert page.open().status == 200


def verb(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "slurm_tf", "page", *words], cwd=folder, text=True, capture_output=True, timeout=30,
        env={**os.environ, **own_folders(folder), "SLURM_TF_SITE": "generic"}, check=False,
    )  # fmt: skip


def test_where_it_cannot_listen_it_says_so(folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = verb(folder, f"--port={other.getsockname()[1]}")
    assert done.returncode == 2
    assert "Address already in use; needed a free port" in done.stderr
    assert verb(folder, "--port=1", "--socket=x").returncode == 2
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    done = verb(folder, f"--socket={shared / 'page.sock'}")
    assert done.returncode == 73
    assert str(shared) in done.stderr


def test_it_never_listens_on_another_address(page: RunningPage) -> None:
    assert page.port
    lines = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    listening = {line.split()[1] for line in lines[1:] if len(line.split()) > 3 and line.split()[3] == "0A"}
    assert {each for each in listening if each.endswith(f":{page.port:04X}")} == {f"0100007F:{page.port:04X}"}


def test_what_is_served_is_small_and_loads_nothing_from_elsewhere() -> None:
    static = Path(__file__).resolve().parents[2] / "slurm_tf" / "page" / "static"
    assert sum(path.stat().st_size for path in static.glob("*.js")) <= 60_000
    assert "MIT" in (static / "uPlot.LICENSE").read_text()
    for path in [*static.parent.glob("*.j2"), static / "page.js", static / "page.css"]:
        text = path.read_text()
        assert "//" not in text.replace("// ", "").replace("http://www.w3.org/2000/svg", ""), path
        assert " style=" not in text
        assert "onclick" not in text
