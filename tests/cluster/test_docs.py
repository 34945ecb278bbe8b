"""The commands of README and docs that need Slurm, typed as they stand there."""

import json
import re

import pytest

from tests import snippets
from tests.cluster.group import Member
from tests.conftest import ROOT
from tests.snippets import PAGES, Snippet

pytestmark = pytest.mark.slurm

# What the pages leave open.
VALUES = {
    "JOB": "flowers.toml",
    "[NAME=VALUE]...": "epochs=7",
    "[sbatch options]": "--time=5",
    "[-- ARGUMENTS]": "-- --verbose",
    "REPOSITORY": str(ROOT),
}
FLOWERS = """\
name = "flowers"
strategy = "multi_worker"
command = ["python", "train.py", "--epochs={epochs}"]
params.epochs = 10
[roles.worker]
count = 2
"""
# In place of a `python` with TensorFlow: a member of the cluster. Under a coordinator the chief ends the others.
PYTHON = """\
#!/usr/bin/python3
import json, os, socket, time
config = json.loads(os.environ["TF_CONFIG"])
here = config["cluster"][config["task"]["type"]][config["task"]["index"]]
with socket.socket() as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", int(here.rpartition(":")[2])))
    server.listen()
    print("trains as", config["task"]["type"], flush=True)
    serves = "chief" in config["cluster"] and config["task"]["type"] != "chief"
    time.sleep(300 if serves else 2)
"""


def without_setup(text: str) -> str:
    """Return a job file without the environment that only its reader has."""
    return re.sub(r"^setup = .*\n", "", text, flags=re.MULTILINE)


class Reader:
    """Somebody who reads the pages and types what they say, on each page in a folder of its own."""

    def __init__(self, member: Member) -> None:
        self.member = member
        member.run("mkdir", "bin")
        member.write("bin/python", PYTHON)
        (member.folder / "bin" / "python").chmod(0o755)

    def type(self, snippet: Snippet) -> str:
        folder = self.member.folder / snippet.page.name
        if not folder.exists():
            self.member.run("mkdir", snippet.page.name)
            for name, text in (("flowers.toml", FLOWERS), ("train.py", ""), ("server.py", "")):
                self.member.write(f"{snippet.page.name}/{name}", text)
            for job in snippets.of("toml job", "docs/keras.md"):
                self.member.write(f"{snippet.page.name}/digits.toml", without_setup(job.text))
        runs = self.member.folder / "runs"
        path = f"{self.member.folder}/bin:{self.member.environ()['PATH']}"
        commands = f"cd {snippet.page.name}\n{snippets.filled(snippet.text, VALUES)}"
        return self.member.run("bash", "-ec", commands, environ={"PATH": path, "SLURM_TF_RUNS": str(runs)})


def test_what_the_pages_say_can_be_typed(alice: Member) -> None:
    reader = Reader(alice)
    # that of other pages is about the run that this one submits
    (first,) = snippets.of("sh slurm", "docs/submit.md")
    reader.type(first)
    environ = {"SLURM_TF_RUNS": str(alice.folder / "runs")}
    assert alice.ok("wait", "flowers-1", environ=environ) == ""
    printed = {snippet: reader.type(snippet) for snippet in snippets.of("sh slurm") if snippet != first}
    shown = {page.name: "".join(text for each, text in printed.items() if each.page == page) for page in PAGES}
    assert "[chief:0] trains as chief\n" in shown["README.md"]
    assert shown["jobs.md"].count("Submitted batch job ") == 2
    assert "flowers-1: 1 incarnation (1 completed)\n" in shown["README.md"]
    assert sorted(shown["launch.md"].split("\n")) == ["", *3 * ["trains as ps"], *9 * ["trains as worker"]]
    ends = [json.loads(line) for line in (alice.folder / "launch.md" / "ends.jsonl").read_text().splitlines()]
    assert {(each["task"], each["rank"], each["exit_code"]) for each in ends} == {
        ("ps:0", 0, 0), ("worker:0", 1, 0), ("worker:1", 2, 0), ("worker:2", 3, 0),
    }  # fmt: skip
    assert re.search(r"^node1 .* ok$", shown["preflight.md"], re.MULTILINE)
    assert "[chief:0] trains as chief\n" in shown["sandbox.md"]
    assert "TOTAL" in shown["usage.md"]
    assert [name.removesuffix(".md") for name, text in shown.items() if text] == [
        "README", "doctor", "jobs", "keras", "launch", "organizations", "preflight", "quickstart", "sandbox", "sites",
        "troubleshooting", "usage",
    ]  # fmt: skip
