"""Rules of the house (``tests/house_rules.py``), each with the list of the places that break it."""

from __future__ import annotations

from tests import house_rules


def test_few_functions_that_others_call_have_one_word_names() -> None:
    names, share = house_rules.one_word_functions()
    assert share <= house_rules.MOST_ONE_WORD, "\n".join(names)


def test_no_module_imports_itself_by_way_of_others() -> None:
    circles = house_rules.import_circles()
    assert not circles, "\n".join(circles)
