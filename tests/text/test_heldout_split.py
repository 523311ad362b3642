"""Pages never change sides, and halves of held-out pages are apart."""

from __future__ import annotations

from components.text.heldout_split import MIN_HALF_PAGES, MIN_HALF_PROMPTS, rows_of_half


def rows(pages: int, each: int) -> list[dict[str, str]]:
    return [{"id": f"p{page}", "question": f"q{n}"} for page in range(pages) for n in range(each)]


def test_halves_share_no_page_and_cover_all() -> None:
    given = rows(60, 3)
    choosing, reporting = (rows_of_half(given, half) for half in ("choosing", "reporting"))
    assert not {row["id"] for row in choosing} & {row["id"] for row in reporting}
    assert len(choosing) + len(reporting) == len(given)
    assert min(len({row["id"] for row in half}) for half in (choosing, reporting)) >= 20


def test_a_page_keeps_its_half_when_others_come() -> None:
    before = {row["id"] for row in rows_of_half(rows(60, 2), "choosing")}
    after = {row["id"] for row in rows_of_half(rows(90, 2), "choosing")}
    assert before == {page for page in after if int(page[1:]) < 60}


def test_an_edited_page_keeps_its_half() -> None:
    """An id names one version of a page; its address names the page."""
    before = [{**row, "url": f"https://docs/{row['id']}"} for row in rows(60, 2)]
    after = [{**row, "id": f"{row['id']}-edited"} for row in before]
    urls = [{row["url"] for row in rows_of_half(some, "choosing")} for some in (before, after)]
    assert urls[0] == urls[1]


def test_too_few_pages_or_prompts_all_report() -> None:
    for given in (rows(MIN_HALF_PAGES, 20), rows(40, 1)[: MIN_HALF_PROMPTS + 1], rows(0, 0)):
        assert rows_of_half(given, "choosing") == []
        assert rows_of_half(given, "reporting") == given
