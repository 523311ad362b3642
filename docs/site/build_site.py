"""Builder of the documentation's site: ``make docs``, offline, into ``build/site``.

The pages are the files of the checkout as they lie, so their links hold on a code host as they do
here. They are laid out in ``build/site-source`` with what a site needs beside them: an index, the
reference of a run's config, the API from docstrings, and diagrams drawn as pictures.
"""

from __future__ import annotations

import hashlib
import os
import pkgutil
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parents[2]
SITE = Path("docs/site")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")
FOLDERS = ("docs", "infra/decisions", "examples")
API = ("modelmill", "flows", "serving", "components", "models")
"""Importable roots whose docstrings are the API, in the order of the arrows between them."""
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDEX = re.compile(r"(\]\((?:\.\./)*)README\.md(?=[)#])")
"""Links to the README, which is the site's index. Folders have a README of their own."""
LINK = re.compile(r"(?<=\]\()(?!https?:)[\w./-]+(?=\))")


def lay_out_pages(source: Path) -> None:
    """Copy every page to ``source``, the README as ``index.md``, with diagrams as pictures."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    for name in PAGES:
        shutil.copy2(ROOT / name, source / name)
    shutil.copy2(ROOT / SITE / "conf.py", source / "conf.py")
    (source / "README.md").rename(source / "index.md")
    for page in sorted(source.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        text = LINK.sub(lambda link, page=page: _name_page(link[0], page.parent), text)
        depth = len(page.relative_to(source).parts) - 1
        if depth != 2 or page.name != "README.md":
            text = INDEX.sub(r"\1index.md", text)
        page.write_text(_draw_diagrams(text, source, depth), encoding="utf-8")
    with (source / "index.md").open("a", encoding="utf-8") as file:
        file.write(_contents(source))
    _write_api(source / "api")


def _name_page(link: str, folder: Path) -> str:
    """A link to a folder, which a code host shows by its README, as one to that page."""
    readme = f"{link.rstrip('/')}/README.md"
    return readme if (folder / readme).is_file() else link


def _draw_diagrams(text: str, source: Path, depth: int) -> str:
    """Text with each mermaid block replaced by a light and a dark picture made from it."""

    def draw(match: re.Match[str]) -> str:
        import mermaidx

        name = hashlib.sha256(match[1].encode()).hexdigest()[:12]
        folder = source / "diagrams"
        folder.mkdir(exist_ok=True)
        images = []
        for tone, theme in (("light", "default"), ("dark", "dark")):
            path = folder / f"{name}-{tone}.svg"
            if not path.exists():
                path.write_text(mermaidx.render(match[1], theme=theme).svg(), encoding="utf-8")
            address = f"{'../' * depth}diagrams/{path.name}"
            images.append(f"{{.diagram .diagram-{tone}}}\n![Diagram of the steps]({address})")
        return "\n\n".join(images)

    return DIAGRAM.sub(draw, text)


def _contents(source: Path) -> str:
    """Tables of contents for the side of the page, in the order of ``docs/index.md``."""
    index = (source / "docs" / "index.md").read_text(encoding="utf-8")
    groups: dict[str, list[str]] = {"": ["docs/index"]}
    caption = ""
    for line in index.splitlines():
        if line.startswith("## "):
            caption = line[3:]
        elif link := re.match(r"\| \[[^]]+\]\(([^)#]+)\.md\)", line):
            path = os.path.normpath(f"docs/{link[1]}")
            if path != "index":  # the README, which is this page
                groups.setdefault(caption, []).append(path)
    groups["Code"] = ["api/index", *_names(source, "examples/*/README.md")]
    groups["Decisions"] = _names(source, "infra/decisions/*.md")
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {name}", "", *entries, "```"])
        for name, entries in groups.items()
    ]
    return "\n\n" + "\n\n".join(trees).replace(":caption: \n", "") + "\n"


def _names(source: Path, glob: str) -> list[str]:
    """Pages by their names in a table of contents."""
    return [str(path.relative_to(source).with_suffix("")) for path in sorted(source.glob(glob))]


def _write_api(folder: Path) -> None:
    """Write a page for each package of the product, with the docstrings of its modules."""
    folder.mkdir()
    packages: dict[str, list[str]] = {}
    for module in _modules():
        package = module if module in API else module.rpartition(".")[0]
        packages.setdefault(package, []).append(module)
    for package, modules in packages.items():
        lines = [f"``{package}``", "=" * (len(package) + 4), ""]
        for module in modules:
            if module != package:
                lines += [f"``{module}``", "-" * (len(module) + 4), ""]
            lines.append(f".. automodule:: {module}")
            if module == "modelmill":  # what it takes from other modules stands with them
                lines.append("   :ignore-module-all:")
            lines.append("")
        (folder / f"{package}.rst").write_text("\n".join(lines), encoding="utf-8")
    intro = "The API from docstrings: ``modelmill`` is public, the rest is for who changes it."
    entries = [f"   {package}" for package in packages]
    head = ["API", "===", "", intro, "", ".. toctree::", "   :maxdepth: 1", ""]
    (folder / "index.rst").write_text("\n".join([*head, *entries, ""]), encoding="utf-8")


def _modules() -> Iterator[str]:
    """Names of all modules of the product, packages before what lies in them."""
    for name in API:
        path = ROOT / name
        if path.with_suffix(".py").is_file():
            yield name
        if path.is_dir():
            yield name
            for module in sorted(
                pkgutil.walk_packages([str(path)], f"{name}."), key=lambda m: m[1]
            ):
                if not module.ispkg:
                    yield module.name


def build_site(source: Path, site: Path) -> int:
    """Lay the pages out and let Sphinx build them; any warning is an error.

    Args:
        source: Folder that the pages are laid out in, replaced.
        site: Folder of the site, replaced.

    Returns:
        Sphinx's exit status.
    """
    lay_out_pages(source)
    shutil.rmtree(site, ignore_errors=True)
    # Prefect makes its home when the flows are imported: not in anybody's workspace.
    home = source.with_name("site-cache") / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(home)
    # One process: Sphinx forks its writers, and a forked torch holds the locks of its threads.
    options = ["-W", "--keep-going", "-q", "-d", str(source.with_name("site-cache"))]
    return build_main(["-b", "html", *options, str(source), str(site)])


if __name__ == "__main__":
    build = ROOT / "build"
    status = build_site(build / "site-source", build / "site")
    if status == 0:
        print(f"{build / 'site' / 'index.html'}")
    sys.exit(status)
