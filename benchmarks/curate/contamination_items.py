"""Evaluation items for the contamination bench: of the reference sets, and of other kinds.

Rows are parted in two by a hash of the question; the bounds of the rule were chosen on the first
half, and the bench reports the second.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.curate.installed_documentation import read_sources
from components.text.word_splitting import split_words

CODE_PROBLEMS = 300
PROBLEM_WORDS = range(15, 151)
"""Words of a docstring that states a problem."""
SHORT_WORDS = range(5, 11)
"""Words of a short question."""
DECLARATIONS = (
    "Chinese_Mandarin-UTF8",
    "French_Francais-Latin1",
    "German_Deutsch-Latin1",
    "Greek_Ellinika-UTF8",
    "Hindi-UTF8",
    "Japanese_Nihongo-UTF8",
    "Korean_Hankuko-UTF8",
    "Russian-UTF8",
    "Spanish-Latin1",
    "Turkish_Turkce-UTF8",
    "Vietnamese-UTF8",
)
"""Files of the Universal Declaration of Human Rights whose lines serve as items."""
_MIN_LINE_CHARACTERS = 40
_QUESTION = re.compile(r"[^.!?\n]{15,90}\?")


def is_held_out(text: str) -> bool:
    """True for the half on which nothing was chosen."""
    return hashlib.sha256(text.encode()).digest()[0] >= 128


def read_rows(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Held-out rows of gzipped JSON lines, one a question and answer."""
    lines = (line for file in files for line in gzip.decompress(file.read_bytes()).splitlines())
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if is_held_out(row["question"])]


def choose_answers(rows: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Question -> its right answer."""
    items: dict[str, str] = {}
    for row in rows:
        if row.get("is_correct") or row["question"] not in items:
            items[row["question"]] = row["answer"]
    return items


def read_code_problems() -> dict[str, str]:
    """Signature and docstring of functions, in the form of HumanEval's prompts."""
    problems: dict[str, str] = {}
    for source in read_sources(10**9):
        if len(problems) == CODE_PROBLEMS:
            break
        if is_held_out(source):
            problems.update(_first_problem(source))
    return problems


def _first_problem(source: str) -> dict[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the source of packages
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return {}  # a template, or syntax of another Python version
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    for function in functions:
        text = ast.get_docstring(function)
        if text and len(split_words(text)) in PROBLEM_WORDS:
            head = f"def {function.name}({ast.unparse(function.args)}):"
            return {f'{head}\n    """{text}\n    """': ""}
    return {}


def read_short_questions(pages: Path) -> dict[str, str]:
    """Questions of few words that people ask on web pages."""
    found = (
        question.strip()
        for line in gzip.decompress(pages.read_bytes()).splitlines()
        for question in _QUESTION.findall(json.loads(line)["main_content"] or "")
    )
    return {q: "" for q in found if is_held_out(q) and len(split_words(q)) in SHORT_WORDS}


def read_declarations(archive: Path) -> dict[str, str]:
    """Lines of the Universal Declaration of Human Rights in languages of many scripts."""
    lines: dict[str, str] = {}
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if name.rpartition("/")[2] in DECLARATIONS:
                coding = "utf-8" if name.endswith("UTF8") else "latin-1"
                for line in opened.read(name).decode(coding, errors="replace").splitlines():
                    if len(line.strip()) >= _MIN_LINE_CHARACTERS and is_held_out(line):
                        lines[line.strip()] = ""
    return lines
