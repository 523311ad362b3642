"""Names of licences in folders of models, as their makers state them."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.text.licence_files import find_licence_files, name_licence

APACHE = (
    "\n                                 Apache License\n                           Version 2.0\n"
)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ("", "")),
        ({"README.md": "---\nlicense: apache-2.0\n---\n# A"}, ("apache-2.0", "README.md")),
        ({"README.md": "---\nlicense: [mit, apache-2.0]\n---\n"}, ("mit, apache-2.0", "README.md")),
        (
            {"README.md": "---\nlicense: other\nlicense_name: qwen\n---\n"},
            ("qwen", "README.md"),
        ),
        ({"README.md": "---\nlicense: other\n---\n"}, ("other", "README.md")),
        ({"README.md": "# No head\nlicense: mit\n", "LICENSE": APACHE}, ("Apache-2.0", "LICENSE")),
        ({"README.md": "---\nlicense: {x: y\n---\n"}, ("", "")),
        ({"README.md": "---\nlicense: 3\n---\n"}, ("", "")),
        ({"config.json": '{"license": "mit"}', "LICENSE": APACHE}, ("mit", "config.json")),
        ({"config.json": "no JSON", "LICENSE.txt": "MIT License\n"}, ("MIT", "LICENSE.txt")),
        (
            {"LICENSE": "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release\n"},
            ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT", "LICENSE"),
        ),
        ({"LICENCE": b"\xff\xfe\x00", "NOTICE": "Made by us."}, ("��\x00", "LICENCE")),
        ({"NOTICE": "Made by us."}, ("", "")),
        ({"LICENSE": "x" * 200}, ("x" * 80, "LICENSE")),
        ({"LICENSE": "\n \n"}, ("", "")),
    ],
)
def test_a_licence_is_named_by_the_strongest_statement(
    files: dict[str, str | bytes], expected: tuple[str, str], tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert name_licence(tmp_path) == expected


def test_texts_of_a_licence_go_along_and_nothing_else(tmp_path: Path) -> None:
    kept = ["LICENSE", "NOTICE.txt", "Use-Policy.md", "license-mit.txt"]
    for name in (*kept, "README.md", "licensed_data.py", "model.safetensors"):
        (tmp_path / name).write_text("text")
    (tmp_path / "COPYING").mkdir()
    (tmp_path / "LICENSE.huge").write_bytes(b"x" * ((1 << 20) + 1))
    assert [path.name for path in find_licence_files(tmp_path)] == sorted(kept)
