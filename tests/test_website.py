"""The documentation as a site: its pages, made of README.md and docs/, and what zensical builds of them."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import ROOT
from website import build


def test_a_page_keeps_its_place_and_what_it_leads_to_becomes_a_page(tmp_path: Path) -> None:
    """A link in a fence, an option in a table, a page whose text is its path."""
    build.write_pages(tmp_path)
    index = (tmp_path / "index.md").read_text()
    assert "[Submitting and watching jobs](docs/submit.md)" in index
    assert "[Apache-2.0](LICENSE.md)" in index
    assert "\n```toml\nname = " in index
    sites = (tmp_path / "docs" / "sites.md").read_text()
    assert "](../site_configs/generic.toml.md)" in sites
    generic = (tmp_path / "site_configs" / "generic.toml.md").read_text()
    assert generic.startswith("---\nsearch:\n  exclude: true\n---\n# site_configs/generic.toml\n\n````toml\n")
    assert (ROOT / "site_configs" / "generic.toml").read_text() in generic
    assert "- [base.sbatch.j2](" not in (tmp_path / "templates" / "site.md").read_text()
    assert (tmp_path / "templates" / "base.sbatch.j2.md").exists()
    submit = (tmp_path / "docs" / "submit.md").read_text()
    assert "`preemption|timeout" not in submit
    assert "--as preemption|timeout|kill|node-failure" in submit
    assert "not run" not in submit


class Links(HTMLParser):
    """Collects the anchors of a page, where it leads, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors, self.leads, self.loads = set[str](), set[str](), set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors.add(found.get("id", ""))
        if tag == "a" and "href" in found:
            self.leads.add(found["href"])
        elif tag == "link":
            self.loads.add(found["href"])
        elif "src" in found:
            self.loads.add(found["src"])


@pytest.mark.long  # needs `make docs`; in `make test` are the links of the pages that it is built from
def test_the_site_is_whole_and_loads_nothing_from_elsewhere() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "website" / "build.py"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: Links(path.read_text()) for path in build.SITE.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > len(list((ROOT / "docs").glob("*.md")))
    for page, links in pages.items():
        for link in links.leads | links.loads:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https"
                assert link not in links.loads, f"{page}: {link}"
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert path.exists(), f"{page}: {link}"
            known = pages[path].anchors if path in pages else {""}
            assert unquote(parts.fragment) in known, f"{page}: {link}"
    styles = "".join(path.read_text() for path in build.SITE.rglob("*.css"))
    assert re.findall(r"url\((?:https?:)?//[^)]*\)", styles) == []
