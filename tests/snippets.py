"""The snippets of the pages: what stands between two fences. The words of the first fence say what it is.

A comment `<!-- not run: WHY -->` before it says that no test can run it.
"""

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
# The words of a fence, and the file of tests that runs such snippets.
RUN_BY = {
    "sh": "tests/test_docs.py",
    "console": "tests/test_docs.py",
    "text": "tests/test_docs.py",  # what slurm-tf prints
    "jinja": "tests/test_docs.py",
    "toml recipe": "tests/prepare/test_docs.py",
    "sql recipe": "tests/prepare/test_docs.py",
    "toml job": "tests/test_docs.py",
    "toml template": "tests/test_docs.py",  # of a group
    "toml site": "tests/test_docs.py",
    "toml config": "tests/test_docs.py",  # the user file
    "toml prices": "tests/test_docs.py",
    "sh slurm": "tests/cluster/test_docs.py",
    "sh admin": "tests/cluster/test_organizations.py",
    "toml organizations": "tests/cluster/test_organizations.py",
    "sh install": "tests/test_packaging.py",
    "sh node": "tests/cluster/test_admins.py",
    "sh tensorflow": "tests/jobs/test_docs.py",
    "sh predict": "tests/predict/test_predict_command.py",
    "python": "tests/jobs/test_docs.py",
    "diff": "tests/test_docs.py",
    "python horovod": "tests/jobs/test_horovod_advice.py",
}
_SNIPPET = re.compile(
    r"(?:^<!-- not run: (?P<why>.*) -->\n)?^(?P<indent> *)```(?P<kind>.*)\n(?P<text>(?:.*\n)*?)^ *```$", re.MULTILINE
)


@dataclass(frozen=True)
class Snippet:
    """One snippet. `kind`: the words of its fence; `why`: no test can run it, "" for the others."""

    page: Path
    line: int
    kind: str
    text: str
    why: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read(page: Path) -> list[Snippet]:
    """Return the snippets of a page, in its order."""
    text = page.read_text()
    return [
        Snippet(page, text.count("\n", 0, found.start("kind")) + 1, found["kind"], textwrap.dedent(found["text"]), why)
        for found in _SNIPPET.finditer(text)
        for why in [found["why"] or ""]
    ]


ALL = [snippet for page in PAGES for snippet in read(page)]


def of(kind: str, page: str = "") -> list[Snippet]:
    """Return the snippets of a kind that tests run, of all pages or of the one that ends in `page`."""
    return [each for each in ALL if each.kind == kind and not each.why and str(each.page).endswith(page)]


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return commands with values in place of what the page leaves open: RUN, [sbatch options]."""
    names = sorted(values, key=len, reverse=True)
    pattern = "|".join(map(re.escape, names))
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda found: values[found[0]], text)


def patched(text: str, diff: str) -> str:
    """Return a program with the changes of a diff without line numbers: "..." is between two places."""
    for hunk in diff.split("...\n"):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
