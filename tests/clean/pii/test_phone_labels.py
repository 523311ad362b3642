"""Telephone numbers beside labels of every script, with slashes; and numbers of products."""

from __future__ import annotations

import pytest

from components.text.pii.find_pii import find_pii_spans


def phones(text: str) -> list[str]:
    return [text[s.start : s.end] for s in find_pii_spans(text) if s.kind == "phone"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Tel.: 0221 / 4815939", "0221 / 4815939"),
        ("Tel.: 089 / 73 91 46 28", "089 / 73 91 46 28"),
        ("Mobil: 0176 / 73914628 oder Mail", "0176 / 73914628"),
        ("Telefon 030/ 739 146-28.", "030/ 739 146-28"),
        ("Fax: (040) / 739 14 62", "(040) / 739 14 62"),
        ("Tel. 06151 / 73-9146", "06151 / 73-9146"),
        ("電話: 03-3581-9472", "03-3581-9472"),
        ("電話番号：03-3581-9472（代表）", "03-3581-9472"),
        ("お問い合わせは電話03-3581-9472まで", "03-3581-9472"),
        ("手机 13917462853", "13917462853"),
        ("请致电010-82614739或手机13917462853联系", "010-82614739"),
        ("传真：021-62814739", "021-62814739"),
        ("전화: 02-739-6148", "02-739-6148"),
        ("연락처 010-7391-6248로 주세요", "010-7391-6248"),
        ("هاتف: 0503917462", "0503917462"),
        ("جوال ٠٥٠٣٩١٧٤٦٢", "٠٥٠٣٩١٧٤٦٢"),
        ("טלפון: 03-7391462", "03-7391462"),
        ("טל' 054-7391462", "054-7391462"),
        ("โทร. 02-739-1462", "02-739-1462"),
        ("มือถือ 081-739-1462", "081-739-1462"),
        ("फ़ोन: 98739 14628", "98739 14628"),
        ("\u095e\u094b\u0928: 98739 14628", "98739 14628"),
        ("मोबाइल 9873914628", "9873914628"),
        ("Тел. 495 739-61-48", "495 739-61-48"),
        ("моб. 0677396148", "0677396148"),
        ("Τηλ. 210 7391462", "210 7391462"),
        ("Điện thoại: 028 3739 1462", "028 3739 1462"),
    ],
)
def test_numbers_beside_their_labels(text: str, number: str) -> None:
    assert number in phones(text)


@pytest.mark.parametrize(
    "text",
    [
        "Nokia 3310-2471-100 phone",
        "Model call 0800-3000",
        "Phone model 3310-2471-100 was released",
        "Gigaset 5030-2471 telephone",
        "mobile part no. 739-146-285",
        "the fax article 7391-4628",
        "0221 / 4815939",
        "rooms 10 / 4815939 of it",
        "the years 2019 / 2020 and 2021 / 2022 in telephones",
        "第4815939号",
        "手册 2020-2021",
        "페이지 1000-2000",
    ],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert phones(text) == []


def test_two_numbers_with_a_slash_between_are_two() -> None:
    assert phones("Tel. 0221 739146 / 739147") == ["0221 739146"]
    both = phones("Tel. 0221 739146 / 0221 739147")
    assert both[0] == "0221 739146"
    assert phones("Tel.: 02 21 / 48 15 93") == ["02 21 / 48 15 93"]
