"""Headings of real documentation: what names a topic, and what is a label, a number or a date."""

from __future__ import annotations

import time

import pytest

from components.text.heading_topics import names_release, topic_of

LABELS = {
    "admonitions": "Note|NOTE:|Caution|Tip|Tips|Warning!|Important|Danger|Info|See also|Hint",
    "sphinx": "Contents:|Indices and tables|Module contents|Submodules|Subpackages|Changelog¶",
    "numpydoc": "Parameters|Other Parameters|Returns|Yields|Raises|See Also|Notes|References",
    "pdoc": "Sub-modules|Global variables|Class variables|Static methods|Ancestors|Inherited members",
    "mkdocs": "Table of contents|On this page|Back to top|Edit this page",
    "docusaurus": "Next steps|Prerequisites|What's next?|Related articles|Good to know",
    "microsoft": "In this article|Feedback|Additional resources|Remarks|Exceptions",
    "antora": "Example 3|Example 12.|Figure 2|Table 1.|Listing 4|Appendix A|Chapter 7|Part II",
    "oreilly": "Example 3-2.|Figure 10.4|Table 2–1|Step 3:|Exercise 1.2b|Section 28.2.16",
    "doxygen": "Detailed Description|Public Member Functions|Member Function Documentation|Files",
    "javadoc": "Method Summary|Field Details|Constructor Summary|Constructors|Known Subclasses",
    "rustdoc": "Panics|Errors|Safety|Examples|Trait Implementations|Re-exports|Structs|Macros",
    "man": "NAME|SYNOPSIS|DESCRIPTION|OPTIONS|EXIT STATUS|BUGS|AUTHORS|SEE ALSO|COPYRIGHT",
    "numbers": "28.2.16|1.|3)|§ 4.2|A.1|IV.|(b)|404|1.2.3.|2",
    "letters": "A|z|_|#|@|*|C|Q.",
    "change log": "Added|Fixed|Bug fixes|Breaking changes|[Unreleased]|Deprecations and removals",
    "versions": "1.2.3|v2.0|Version 1.0|Release 3.8.1|2.0.0rc1|1.4.0-beta.2|v1.x|0.9.0+build.5",
    "releases": "[1.0.0] - 2024-01-05|3.12.1 (2024-03-01)|v2.1.0 / 2023-05-22|Version 2.0.1 "
    "(released May 3, 2021)|pytest 7.4.0 (2023-06-23)|Flask 2.0.1|1.0 (unreleased)",
    "dates": "2024-01-05|January 5, 2024|5 January 2024|May 2023|2023|Dec. 3rd, 2020|2024.01.05",
}


@pytest.mark.parametrize("generator", LABELS)
def test_labels_name_nothing(generator: str) -> None:
    named = {heading: topic_of(heading) for heading in LABELS[generator].split("|")}
    assert set(named.values()) == {None}, named


@pytest.mark.parametrize(
    ("heading", "topic"),
    [
        ("Configuring a proxy¶", "Configuring a proxy"),
        ("28.2.16. Configuring a proxy", "Configuring a proxy"),
        ("28.2.16 Configuring a proxy", "Configuring a proxy"),
        ("3) Install the package", "Install the package"),
        ("A.2 Grammar of expressions", "Grammar of expressions"),
        ("Chapter 7: Networking", "Networking"),
        ("Example 3-2. Reversing a list", "Reversing a list"),
        ("Step 2 – Build the image", "Build the image"),
        ("Format Version 1.0", "Format Version 1.0"),
        ("OAuth 2.0", "OAuth 2.0"),
        ("What's New In Python 3.12", "What's New In Python 3.12"),
        ("3D plots", "3D plots"),
        ("404 Not Found", "404 Not Found"),
        ("Two-phase commit", "Two-phase commit"),
        ("Noteworthy changes of the parser", "Noteworthy changes of the parser"),
        ("Note taking", "Note taking"),
        ("Parameters of a template", "Parameters of a template"),
        ("Table expressions", "Table expressions"),
        ("Part of speech tagging", "Part of speech tagging"),
        ("March through the array", "March through the array"),
        ("A quick tour", "A quick tour"),
        ("CLI", "CLI"),
        ("CI", "CI"),
        ("Calling C#", "Calling C#"),
        ("`__init__`", "`__init__`"),
        ("Security of downloads#", "Security of downloads"),
        ("I/O and networking", "I/O and networking"),
        ("Error handling", "Error handling"),
        ("Überblick über Warteschlangen", "Überblick über Warteschlangen"),
        ("配置代理", "配置代理"),
    ],
)
def test_topics_are_named_without_number_and_label(heading: str, topic: str) -> None:
    assert topic_of(heading) == topic


def test_a_numbered_label_is_a_label() -> None:
    for heading in ("1.4 Examples", "2.3.1. See also", "Chapter 1: Introduction", "4.1 v2.0"):
        assert topic_of(heading) is None, heading


def test_only_a_version_or_date_is_a_release() -> None:
    assert names_release("[2.1.0] - 2024-05-01")
    assert names_release("May 2023")
    assert not names_release("Version numbering")
    assert not names_release("Changes in the parser")


def test_long_headings_take_no_time() -> None:
    hostile = ("1.", "a", "-rc", "[", " - ", "#", "May ", "x{4}")
    began = time.process_time()
    for part in hostile:
        topic_of("v1" + part * 50_000)
        topic_of("v1" + part * (280 // len(part)) + "!")
    assert time.process_time() - began < 1.0  # microseconds each; the square takes minutes
