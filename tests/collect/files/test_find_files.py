"""Files found as a person expects: links, hidden files, odd names, unknown kinds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.files.find_files import GlobError, digest_files, find_files
from components.collect.scrape_config import ScrapeConfig
from tests.collect.crawling import NOW
from tests.collect.files.reading import read_bytes, read_folder, zip_bytes


def names(folder: Path, *patterns: str) -> list[str]:
    return list(find_files(patterns, str(folder)).paths)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("a.md", "b.txt", "deep/c.md", "deep/er/d.md"):
        (folder / name).write_text(f"words of {name}")
    return folder


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.md", ["a.md"]),
        ("**/*.md", ["a.md", "deep/c.md", "deep/er/d.md"]),
        ("*/*.md", ["deep/c.md"]),
        ("**/er/*", ["deep/er/d.md"]),
        ("**", ["a.md", "b.txt", "deep/c.md", "deep/er/d.md"]),
        ("[ab].*", ["a.md", "b.txt"]),
        ("d**/*.md", ["deep/c.md"]),
        ("**/**/d.md", ["deep/er/d.md"]),
        ("?.txt", ["b.txt"]),
    ],
)
def test_patterns_mean_what_a_shell_means(notes: Path, pattern: str, expected: list[str]) -> None:
    assert names(notes, pattern) == [f"notes/{name}" for name in expected]


def test_a_folder_means_all_below_it(notes: Path) -> None:
    assert names(notes.parent, "notes") == names(notes, "**/*") == names(notes, f"{notes}/")


def test_hidden_and_system_files_are_set_aside_with_a_line(notes: Path) -> None:
    (notes / ".git").mkdir()
    (notes / ".git" / "x.md").write_text("x")
    for name in (".DS_Store", ".draft.md", "._a.md", "Thumbs.db"):
        (notes / name).write_text("x")
    (notes / "__MACOSX").mkdir()
    (notes / "__MACOSX" / "a.md").write_text("x")
    reading = read_folder(notes)
    assert set(reading.texts) == {
        f"file:///notes/{name}" for name in ("a.md", "b.txt", "deep/c.md", "deep/er/d.md")
    }
    assert reading.reasons == {
        "file:///notes/.git": "a hidden folder",
        "file:///notes/__MACOSX": "a hidden folder",
        **{
            f"file:///notes/{name}": "a hidden file"
            for name in (".DS_Store", ".draft.md", "._a.md", "Thumbs.db")
        },
    }
    assert not reading.failed
    assert names(notes, ".draft.md") == ["notes/.draft.md"]
    assert names(notes, ".*.md") == ["notes/._a.md", "notes/.draft.md"]
    assert names(notes, ".git/*.md") == [".git/x.md"]


def test_lock_files_of_open_documents_are_no_documents(notes: Path) -> None:
    left = (
        "~$report.docx", "~$sheet.txt", ".~lock.a.odt#", "Desktop.ini", "THUMBS.DB", "Icon\r",
        "$RECYCLE.BIN/x.md", "System Volume Information/x.md", "@eaDir/x.md",
    )  # fmt: skip
    for name in (*left, "~draft.md", "money$.md"):
        (notes / name).parent.mkdir(exist_ok=True)
        (notes / name).write_text("x")
    reading = read_folder(notes)
    assert {"file:///notes/~draft.md", "file:///notes/money%24.md"} < set(reading.texts)
    assert len(reading.texts) == 6
    assert len(reading.reasons) == len(left)
    assert set(reading.reasons.values()) == {"a hidden file", "a hidden folder"}
    assert not reading.failed
    assert names(notes, "~$*.txt") == ["notes/~%24sheet.txt"]
    archive = zip_bytes({"a.md": "a", "deep/~$a.docx": "lock", "~$b.md": "lock"})
    packed = read_bytes(notes.parent, "x.zip", archive)
    assert list(packed.texts) == ["file:///in/x.zip/a.md"]
    assert not packed.failed


def test_links_are_followed_once(notes: Path) -> None:
    outside = notes.parent / "outside"
    outside.mkdir()
    (outside / "far.md").write_text("far")
    (notes / "linked").symlink_to("../outside")
    (notes / "loop").symlink_to(".")
    (notes / "deep" / "up").symlink_to("..")
    (notes / "broken.md").symlink_to("nowhere.md")
    (notes / "self.md").symlink_to("self.md")
    (notes / "0first.md").symlink_to("a.md")
    reading = read_folder(notes)
    assert reading.texts["file:///notes/linked/far.md"] == "far"
    assert len(reading.pages) == 5
    assert reading.reasons == {
        "file:///notes/loop": "a link to a folder that is read already",
        "file:///notes/deep/up": "a link to a folder that is read already",
        "file:///notes/broken.md": "a link that leads nowhere",
        "file:///notes/self.md": "a link that leads nowhere",
        "file:///notes/0first.md": "the same file as notes/a.md",
    }


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    for index in range(12):
        (folder / f"f{index}").mkdir(parents=True)
        (folder / f"f{index}" / "page.md").write_text(f"page {index}")
        for other in range(12):
            (folder / f"f{index}" / f"to{other}").symlink_to(f"../f{other}")
    assert len(names(folder, "**/*.md")) == 12


def test_odd_names_have_addresses_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    odd = ["C#.md", "C.md", "what?.md", "50% off.md", "50%25 off.md", "new\nline.md", "a;b&c=d.md"]
    odd += ["u\u0308.md", "\u00fc.md", "[x].md", "\u65e5.md", "C%23.md", "tab\t.md"]
    for name in odd:
        (folder / name).write_text(f"text of {name}")
    Path(os.fsdecode(os.fsencode(folder) + b"/lat\xe9in.md")).write_bytes(b"text of latin")
    reading = read_folder(folder)
    assert len(reading.texts) == len(odd) + 1
    assert reading.texts["file:///odd/C%23.md"] == "text of C#.md"
    assert reading.texts["file:///odd/C%2523.md"] == "text of C%23.md"
    assert reading.texts["file:///odd/50%25%20off.md"] == "text of 50% off.md"
    assert reading.texts["file:///odd/lat%E9in.md"] == "text of latin"
    assert reading.texts["file:///odd/new%0Aline.md"] == "text of new\nline.md"
    assert reading.texts["file:///odd/u%CC%88.md"] != reading.texts["file:///odd/%C3%BC.md"]
    fixed = resolve_crawl(ScrapeConfig(files=[str(folder)]), [], False, NOW)
    assert ScrapeConfig.model_validate_json(fixed.model_dump_json()) == fixed


def test_a_name_that_exists_is_no_wildcard(tmp_path: Path) -> None:
    (tmp_path / "[draft] notes").mkdir()
    (tmp_path / "[draft] notes" / "what?.md").write_text("x")
    (tmp_path / "[draft] notes" / "whatx.md").write_text("y")
    assert names(tmp_path, "[draft] notes/what?.md") == ["%5Bdraft%5D%20notes/what%3F.md"]
    assert len(names(tmp_path, "[draft] notes/*.md")) == 2


def test_unknown_kinds_are_set_aside(notes: Path) -> None:
    (notes / "picture.png").write_bytes(b"\x89PNG")
    (notes / "Makefile").write_text("all:")
    os.mkfifo(notes / "pipe.md")
    reading = read_folder(notes)
    assert reading.reasons == {
        "file:///notes/picture.png": "its kind is not known",
        "file:///notes/Makefile": "its kind is not known",
        "file:///notes/pipe.md": "no regular file",
    }
    assert not reading.failed
    with pytest.raises(GlobError, match=r"picture\.png: its kind is not known; readable are"):
        names(notes, "picture.png")
    with pytest.raises(GlobError, match=r"its kind is not known"):
        names(notes, "*.png")


def test_globs_that_overlap_read_a_file_once(notes: Path) -> None:
    found = find_files(["deep/*.md", "**/*.md", "a.md"], str(notes))
    assert list(found.paths) == ["deep/c.md", "notes/a.md", "notes/deep/er/d.md"]
    assert found.set_aside == {"notes/deep/c.md": "the same file as deep/c.md"}


def test_what_is_set_aside_is_part_of_the_input(notes: Path) -> None:
    before = digest_files(["**/*"], str(notes))
    (notes / "x.png").write_bytes(b"png")
    after = digest_files(["**/*"], str(notes))
    assert after == {**before, "notes/x.png": "set aside: its kind is not known"}


def test_globs_without_files_say_why(notes: Path) -> None:
    (notes / "gone.md").symlink_to("nowhere")
    for pattern, problem in {
        "*.html": r"matches no file; looked in",
        "none/*.md": r"matches no file; there is no folder",
        "gone.md": r"gone\.md is a link that leads nowhere",
    }.items():
        with pytest.raises(GlobError, match=problem):
            names(notes, pattern)


def test_a_file_that_cannot_be_opened_is_set_aside(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(self: Path, *arguments: object, **more: object) -> object:
        if self.name == "b.txt":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    reading = read_folder(notes)
    assert reading.reasons == {"file:///notes/b.txt": "cannot be read: Permission denied"}
    assert len(reading.pages) == 3
