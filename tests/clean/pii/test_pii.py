"""Personal data is found where it is, and not where it is not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.clean.pii.score import PiiConfig, score_pii
from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.pii.bank_numbers import card_brand
from components.text.pii.check_digits import iban_holds, luhn_holds
from components.text.pii.find_pii import ALL_PII_KINDS, NAME_KINDS, find_pii_spans

KEY = "AKIA" + "QYLPMN5HHFPZAM2K"
SLACK = "https://hooks.slack.com/services/" + "T02KX81QZ/B03LM92RA/k3J9vX2mQ8rT5wY1zB4nC7dF"
AGE = "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE"
ROUTABLE = "glpat-" + "k3J9vX2mQ8rT5wY1zB4nC7dF6gH0jL2pS9uA.01.0w1f2k3m4"
MAILCHIMP = "3f9a0c5b7e2d4816a9b0c3d5e7f81924" + "-us12"
GITHUB = "ghp_" + "k3J9vX2mQ8rT5wY1zB4nC7dF6gH0jL2pS9uA"


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        (
            "write to ada.lovelace+x@mail.analytical.org.",
            "email",
            "ada.lovelace+x@mail.analytical.org",
        ),
        ("see user@example.com", "email_example", "user@example.com"),
        ("git@github.com:a/b", "email_example", "git@github.com"),
        ("call +44 20 7946 0958 now", "phone", "+44 20 7946 0958"),
        ("call (212) 736-5000", "phone", "(212) 736-5000"),
        ("phone 212 736 5000", "phone", "212 736 5000"),
        ("call (212) 555-0142", "phone_example", "(212) 555-0142"),
        ("host 81.2.69.142 answered", "ip", "81.2.69.142"),
        ("http://81.2.69.142/x", "ip", "81.2.69.142"),
        ("bind 127.0.0.1:80", "ip_example", "127.0.0.1"),
        ("bind 192.168.0.7", "ip_example", "192.168.0.7"),
        ("at 2a02:8108:9640:3d20:8d3:91ff:fe17:1 now", "ip", "2a02:8108:9640:3d20:8d3:91ff:fe17:1"),
        ("at 2001:db8:0:1:2::7 now", "ip_example", "2001:db8:0:1:2::7"),
        ("paid with 4539 1488 0343 6467.", "card", "4539 1488 0343 6467"),
        ("paid with 4111-1111-1111-1111", "card_example", "4111-1111-1111-1111"),
        ("IBAN DE75 5121 0800 1245 1261 99", "iban", "DE75 5121 0800 1245 1261 99"),
        ("IBAN GB82WEST12345698765432", "iban_example", "GB82WEST12345698765432"),
        (f"id {KEY} here", "secret", KEY),
        ("id AKIAIOSFODNN7EXAMPLE here", "secret_example", "AKIAIOSFODNN7EXAMPLE"),
        (f"token: {GITHUB}", "secret", GITHUB),
        ("api_key = 'q9Xv72LmPz40KtRw'", "secret", "q9Xv72LmPz40KtRw"),
        ("postgres://reporting:h8Kq2zVw@db/x", "login", "reporting:h8Kq2zVw"),
        ("postgres://scott:tiger@db/x", "login_example", "scott:tiger"),
        ("ring 01632 960 983 today", "phone", "01632 960 983"),
        ("Tel.: 030/901820-0", "phone", "030/901820-0"),
        ("fax 01 42 68 53 00", "phone", "01 42 68 53 00"),
        ("0044 20 7946 0018", "phone", "0044 20 7946 0018"),
        ("WhatsApp +91 98765 43210", "phone", "+91 98765 43210"),
        ("Phone +49 (0) 30 / 901 820-78", "phone", "+49 (0) 30 / 901 820-78"),
        ("office,213.736.5000x22 or so", "phone", "213.736.5000x22"),
        ("You can call 73 448 266", "phone", "73 448 266"),
        ("61 51 81 office", "phone", "61 51 81"),
        ("88 165 40 96 is my phone number", "phone", "88 165 40 96"),
        ("you can reach Ada King at 041 541 67 61", "phone", "041 541 67 61"),
        ("her phone (001-755-329-4431) is off", "phone", "001-755-329-4431"),
        ("Tel.21 232 945 1338", "phone", "21 232 945 1338"),
        ("the support line: 9493 7477", "phone", "9493 7477"),
        ("DL: A56319335", "national_id", "A56319335"),
        ("license #425700624", "national_id", "425700624"),
        ("425700624 is my driver's license number", "national_id", "425700624"),
        ("ip=86.231.85.193", "ip", "86.231.85.193"),
        ("my cell is 4157365000", "phone", "4157365000"),
        ("my SSN: 536-90-4399", "national_id", "536-90-4399"),
        ("SSN 536904399", "national_id", "536904399"),
        ("his social security number is 078-05-1120", "national_id_example", "078-05-1120"),
        ("NI AB 12 34 56 C", "national_id", "AB 12 34 56 C"),
        ("DNI 12345678Z", "national_id", "12345678Z"),
        ("NIE X1234567L", "national_id", "X1234567L"),
        ("codice RSSMRA85T10A562S", "national_id", "RSSMRA85T10A562S"),
        ("NIR 2 55 08 14 168 025 38", "national_id", "2 55 08 14 168 025 38"),
        ("CPF 529.982.247-25", "national_id", "529.982.247-25"),
        ("PESEL 44051401359", "national_id", "44051401359"),
        ("HETU 131052-308T", "national_id", "131052-308T"),
        ("född 811228-9874", "national_id", "811228-9874"),
        ("AHV 756.9217.0769.85", "national_id", "756.9217.0769.85"),
        ("NRIC S1234567D", "national_id", "S1234567D"),
        ("SIN 046 454 286", "national_id", "046 454 286"),
        ("id 11010519491231002X", "national_id", "11010519491231002X"),
        ("INSZ 85.07.30-033.28", "national_id", "85.07.30-033.28"),
        ("Aadhaar 2341 2341 2346", "national_id", "2341 2341 2346"),
        ("BSN 111222333", "national_id", "111222333"),
        ("CURP HEGG560427MVZRRL04", "national_id", "HEGG560427MVZRRL04"),
        ("passport number is X12345678", "national_id", "X12345678"),
        ("my driver's license number is a56319335", "national_id", "a56319335"),
        ("Amex 3714 496353 98431.", "card_example", "3714 496353 98431"),
        ("iban de75512108001245126199", "iban", "de75512108001245126199"),
        ("IBAN DE75 5121 0800 1245 1261 99 please", "iban", "DE75 5121 0800 1245 1261 99"),
        ("ada.l [at] analytical [dot] org", "email", "ada.l [at] analytical [dot] org"),
        ("jürgen@müller-söhne.de", "email", "jürgen@müller-söhne.de"),
        ("fe80::1%eth0", "ip_example", "fe80::1"),
        ("IP:86.231.85.193", "ip", "86.231.85.193"),
        ("SERVICE_PASSWORD=Tr0ub4dor&3xKzQ9", "secret", "Tr0ub4dor&3xKzQ9"),
        ("Authorization: Bearer abcDEF93kf56ghiJKL789", "secret", "abcDEF93kf56ghiJKL789"),
        (SLACK, "secret", SLACK),
        (AGE, "secret", AGE),
        (f"use {ROUTABLE}, then", "secret", ROUTABLE),
        (f"chimp {MAILCHIMP}", "secret", MAILCHIMP),
    ],
)
def test_found(text: str, kind: str, found: str) -> None:
    assert [(s.kind, text[s.start : s.end]) for s in find_pii_spans(text)] == [(kind, found)]


@pytest.mark.parametrize(
    "text",
    [
        "version 3.11.4.1 and release 10.4.2.8",
        "https://hooks.slack.com/services/ABC123/DEF456/XYZ789",
        "a@b, x @ y, @decorator, A@B.T, u@v.inv",
        "0.4111111111111111 and 4111111111111112",
        "array([256 512 1024, 333 444 5555])",
        "hash 4539148803436467893012345678901234567890",
        "12:30:45 and a[1::2] and std::vector::iterator",
        "password = 'correct horse battery'",
        "secret = 'configuration-value-name'",
        "DE75512108001245126198 fails its check digits",
        "2024-01-15T10:30:00+01:00",
        "+1 -1 +100 +12 34",
        "1e+10 +1234",
        "UUID 123e4567-e89b-12d3-a456-426614174000",
        "in 2019-2020 we called 100 people",
        "reached 1 200 000 people, 12 345 678 in all",
        "call 2019-12-31 again, text 2019-2020",
        "ISBN 978-3-16-148410-0, order 123-456-789",
        "SSN 000-12-3456 and 666-12-3456 and 123-00-4567",
        "DNI 12345678A and CPF 529.982.247-26",
        "a passport with 123456 stamps, 12345678 stamps",
        "password: os.environ['DB_PASSWORD_2024']",
        "cache-key: 5f4dcc3b5aa765d61d8327deb882cf99",
        "token = config.values.first_token_of_2024",
        "a::b, 1::2 and dead::beef",
        "h * 69069 + 907133923 or Decimal('+35236450.6')",
        "look [at] it [dot] all",
    ],
)
def test_not_found(text: str) -> None:
    assert [(s.kind, text[s.start : s.end]) for s in find_pii_spans(text)] == []


@pytest.mark.parametrize(
    "unit", ["12 34 ", "1-", "(1 ", "GB82 WEST 1234 ", "a.b.", "[at] ", "sk-a"]
)
def test_no_text_takes_more_than_a_moment(unit: str) -> None:
    """Patterns that go back over what they read would take hours here, and the test's time out."""
    assert find_pii_spans(unit * 20_000) == []


def test_a_private_key_is_one_span() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n4539148803436467\n-----END RSA PRIVATE KEY-----"
    spans = find_pii_spans(f"before {key} after")
    assert [(s.start, s.end, s.kind) for s in spans] == [(7, 7 + len(key), "secret")]


def test_checksums() -> None:
    assert luhn_holds("4539148803436467")
    assert not luhn_holds("4539148803436468")
    assert iban_holds("DE75512108001245126199")
    assert not iban_holds("DE75512108001245126198")
    assert card_brand("4539148803436467") == "visa"
    assert card_brand("9539148803436467") is None


@given(st.integers(0, 10**16 - 1))
def test_few_random_numbers_pass_for_cards(number: int) -> None:
    digits = f"{number:016d}"
    for span in find_pii_spans(f"value {digits}"):
        assert span.kind != "card" or (luhn_holds(digits) and card_brand(digits))


@given(st.text(alphabet="a1@.:/+-() \nE", max_size=80))
def test_spans_are_sorted_apart_and_inside(text: str) -> None:
    spans = find_pii_spans(text)
    assert all(0 <= s.start < s.end <= len(text) for s in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_scores_hold_offsets_in_characters(corpus_of: Callable[..., Corpus], work: Workdir) -> None:
    text = "Größe 👍 ask ada@analytical.org or ada@analytical.org"
    scores = score_pii(PiiConfig(), corpus_of([text, "nothing"], shards=1), work)
    rows = sorted(
        read_shards(work.artifact_folder(scores)).to_pylist(), key=lambda row: -len(row["spans"])
    )
    assert [text[s["start"] : s["end"]] for s in rows[0]["spans"]] == ["ada@analytical.org"] * 2
    assert (rows[0]["distinct"], rows[1]["spans"]) == (1, [])
    assert scores.stats["email"] == 2


def test_only_the_wanted_kinds_are_kept(corpus_of: Callable[..., Corpus], work: Workdir) -> None:
    corpus = corpus_of(["ada@analytical.org at 81.2.69.142"])
    scores = score_pii(PiiConfig(kinds=("ip",)), corpus, work)
    spans = [
        s for row in read_shards(work.artifact_folder(scores)).to_pylist() for s in row["spans"]
    ]
    assert [span["kind"] for span in spans] == ["ip"]


def test_an_unknown_kind_is_refused_with_the_one_that_was_meant() -> None:
    assert PiiConfig().kinds == (*ALL_PII_KINDS, *NAME_KINDS)
    with pytest.raises(
        ConfigError, match=r"kinds\.0: given 'emial': unknown; did you mean 'email'"
    ):
        overlay_config(PiiConfig(), {"kinds": ["emial"]})
    with pytest.raises(ConfigError, match=r"given 'zzz': unknown; allowed: secret, secret_example"):
        overlay_config(PiiConfig(), {"kinds": ["zzz"]})
