"""Builds the documentation as a site: `make docs`.

Its pages are those of this folder and of docs/, and what they link to, in the folders that they have here: a link leads
to the same page in a checkout and on the site. A file that is no page, such as a job file, becomes one that shows it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What mkdocs.yml names: the folders of the pages and of the site.
PAGES = ROOT / "build" / "website"
SITE = ROOT / "site"
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?!https?:)(?P<path>[^)#]+)(?P<anchor>#[^)]*)?\)")
_FENCE = re.compile(r"(?P<indent> *)```(?P<kind>.*)")
# How files are shown that are no pages.
_LANGUAGES = {".j2": "jinja", ".py": "python", ".toml": "toml"}
# The search finds pages, not the files that they lead to.
_NOT_FOUND = "---\nsearch:\n  exclude: true\n---"


def main() -> None:
    """Write the site, or exit with the exit code of zensical."""
    write_pages(PAGES)
    shutil.rmtree(SITE, ignore_errors=True)
    # --strict: it fails if a link leads nowhere
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    print("the site is in site/: open site/index.html, or put the folder onto a web server")


def write_pages(folder: Path) -> None:
    """Write what the site is built from into `folder`, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    waiting = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
    written: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in written:
            continue
        written.add(source)
        path = folder / page_of(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(source))
        waiting += linked(source)
    for asset in sorted((ROOT / "website").glob("*.[cj]s*")):
        shutil.copy(asset, folder)


def page_of(source: Path) -> Path:
    """Return the path of the page that shows a file or folder, relative to the pages."""
    relative = source.relative_to(ROOT)
    if relative == Path("README.md"):
        return Path("index.md")
    return relative if relative.suffix == ".md" else relative.with_name(f"{relative.name}.md")


def linked(source: Path) -> list[Path]:
    """Return the files and folders that a page leads to."""
    if source.is_dir():
        return files_in(source)
    if source.suffix != ".md":
        return []
    return [target(source, found["path"]) for found in _LINK.finditer(source.read_text())]


def target(source: Path, path: str) -> Path:
    """Return the file or folder that a link of a page leads to."""
    return Path(os.path.normpath(source.parent / path))


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that git has or would add: no caches."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "."],
        cwd=folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [folder / name for name in sorted(listed.stdout.split("\0")) if name and (folder / name).is_file()]


def page(source: Path) -> str:
    """Return the text of the page that shows a file or folder."""
    name = str(source.relative_to(ROOT))
    if source.is_dir():
        rows = (f"- [{each.relative_to(source)}]({each.relative_to(source.parent)}.md)" for each in files_in(source))
        return "\n".join([_NOT_FOUND, f"# {name}/", "", *rows, ""])
    text = source.read_text()
    if source.suffix == ".md":
        return "\n".join(map_lines(source, text))
    fence = "`" * (max(map(len, ["```", *re.findall("`+", text)])) + 1)
    return f"{_NOT_FOUND}\n# {name}\n\n{fence}{_LANGUAGES.get(source.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def map_lines(source: Path, text: str) -> list[str]:
    """Return the lines of a page as the site's Markdown wants them."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = _FENCE.fullmatch(line)
        if fence:
            inside = not inside
            # the other words of a fence are for the tests
            lines.append(f"{fence['indent']}```{fence['kind'].partition(' ')[0]}")
        elif inside:
            lines.append(line)
        elif not line.startswith("<!--"):
            lines.append(_LINK.sub(lambda found: link(source, found), table_row(line)))
    return lines


def table_row(line: str) -> str:
    r"""Return a row whose `a\|b` is `a|b`: only GitHub wants the backslash in code."""
    return re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), line) if line.startswith("|") else line


def link(source: Path, found: re.Match[str]) -> str:
    """Return a link to the page that shows what a link leads to. Where its text is a page's path it is the title."""
    to = target(source, found["path"])
    path = os.path.relpath(page_of(to), page_of(source).parent)
    text = title(to) if found["text"] == found["path"] and to.suffix == ".md" else found["text"]
    return f"[{text}]({path}{found['anchor'] or ''})"


def title(source: Path) -> str:
    """Return the heading of a page."""
    return source.read_text().partition("\n")[0].lstrip("# ")


if __name__ == "__main__":
    main()
