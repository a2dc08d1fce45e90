"""Make the site: ``python docs/site/build.py [FOLDER]`` (``make site``) writes it below ``build/site``.

All pages are laid out as in the repository, so that links between them hold there and here; what is
generated comes with them; mkdocs makes HTML of it, and fails at a link that leads nowhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "packaging"), str(ROOT / "docs" / "site")]

from reference import pages  # noqa: E402

_LINK = re.compile(r"\]\(([^)\s:#]+)((?:#[^)]*)?)\)")
_FENCE = re.compile(r"^( *)```(\w*)([^`\n]*)\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
_RAW = re.compile(r"^\s*(?:<\w+>)?```", re.MULTILINE)
FIRST = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")


def laid_out(folder: Path) -> None:
    """Write all pages below ``folder``, and the files that they link to."""
    made = {f"docs/reference/{name}": text for name, text in pages().items()}
    made["docs/adr/README.md"] = decisions()
    for path in [
        *FIRST,
        *(str(it.relative_to(ROOT)) for it in sorted((ROOT / "docs").rglob("*.md"))),
    ]:
        made.setdefault(path, (ROOT / path).read_text())
    for path, text in made.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        text = _FENCE.sub(_fenced, text)
        place.write_text(_LINK.sub(partial(_kept, page=path, folder=folder, made=made), text))


def _fenced(fence: re.Match[str]) -> str:
    """Return a block as Python-Markdown reads it: it knows one word behind a fence, and none in a list."""
    deep, language, words, text = fence.groups()
    if not deep:
        name = words.partition("file=")[2].strip()
        return (f"`{name}`:\n\n" if name else "") + f"```{language}\n{text}```"
    lines = [line.removeprefix(deep) for line in text.splitlines()]
    return "\n" + "\n".join(f"{' ' * 8}{line}".rstrip() for line in lines) + "\n"


def _kept(link: re.Match[str], page: str, folder: Path, made: dict[str, str]) -> str:
    """Return a link as it is on the site: to a folder's page, or to a file that is brought along."""
    target = (ROOT / page).parent.joinpath(link[1]).resolve()
    if not target.is_relative_to(ROOT) or not target.exists():
        return link[0]  # mkdocs says so
    path = target.relative_to(ROOT)
    if target.is_dir():
        inner = next((it for it in ("README.md", "index.md") if f"{path}/{it}" in made), None)
        if inner is None:
            return _listed(target, path, folder, link)
        return f"]({link[1].rstrip('/')}/{inner}{link[2]})"
    if str(path) not in made:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, folder / path)
    return link[0]


def _listed(target: Path, path: Path, folder: Path, link: re.Match[str]) -> str:
    """Bring a folder of examples along, as a page of what is in it."""
    lines = [f"# {path}", ""]
    for file in sorted(it for it in target.rglob("*") if it.is_file()):
        lines += [
            f"## {file.relative_to(target)}",
            "",
            "````text",
            file.read_text().rstrip("\n"),
            "````",
            "",
        ]
    (folder / path).mkdir(parents=True, exist_ok=True)
    (folder / path / "README.md").write_text("\n".join(lines))
    return f"]({link[1].rstrip('/')}/README.md)"


def decisions() -> str:
    """Return the list of all decisions, by their numbers."""
    lines = ["# Decisions", "", "What was decided, why, and what was refused.", ""]
    for page in sorted((ROOT / "docs" / "adr").glob("*.md")):
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        lines.append(f"* [{title}]({page.name})")
    return "\n".join([*lines, ""])


def main(folder: str = "build/site") -> int:
    """Make the site; return the exit status."""
    site = Path(folder).resolve()
    pages_ = site.with_name(site.name + "-pages")
    shutil.rmtree(pages_, ignore_errors=True)
    laid_out(pages_)
    config = pages_.with_suffix(".yml")
    text = (ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    config.write_text(f"{text}\ndocs_dir: {pages_}\nsite_dir: {site}\n")
    # Not --quiet: what it does not print it does not count either, and --strict would let it pass.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "-f", config],
        check=False,
        capture_output=True,
        text=True,
    )
    raw = [it for it in site.rglob("*.html") if _RAW.search(it.read_text())]
    for page in raw:
        print(f"{page}: a fence was not read as one", file=sys.stderr)
    if done.returncode == 0 and not raw:
        print(f"the site is in {site}: open {site / 'index.html'}")
    else:
        told = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
        print("\n".join(told), file=sys.stderr)
    return done.returncode or bool(raw)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
