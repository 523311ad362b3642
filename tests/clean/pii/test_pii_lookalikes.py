"""Look-alikes of manuals are no personal data, and forms that people write are found."""

from __future__ import annotations

import pytest

from components.text.pii.find_pii import find_pii_spans
from components.text.pii.redact import Redactor


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in find_pii_spans(text)]


@pytest.mark.parametrize(
    "text",
    [
        "#### 11.1.2.1. Virtual domains",
        "see 4.2.1.3, “The scanner says”",
        "veja Seção 12.1.2.1 e seguintes",
        "11.3.3.2 and 11.3.3.5 of the specification",
        "sections 31.41.59.26 and 31.41.59.27 say more",
        "- 8.2.14.16 Content filtering\n- 8.2.14.17 Response policy",
        'version "17.0.4.1" of the virtual machine',
        "V8 9.6.180.15 and kernel 4.18.0.477",
        "libX11 1.4.99.1 needs at-spi2-core 2.39.90.1",
        "dpkg (1.15.8.5) unstable; urgency=low",
        "Chrome/120.0.0.0 Safari/537.36, OpenSSL 3.0.2.1, v1.2.3.4",
        "ed25519 (OID 1.3.101.112), ed448 (OID 1.3.101.113)",
        "94.2.0.192.in-addr.arpa. CNAME host.acme.org.",
        "std::vector<a::b::c>, 12:34:56, 00:1b:44:11:3a:b7",
        "connections on Icinga2 2.10.3.1 closed",
        "Trying 2606:4700:4700::1111:443...",
        "EUI-64 20:1b:44:ff:fe:11:3a:b7",
    ],
)
def test_numbers_with_dots_or_colons_are_no_addresses(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "the group 239.2.11.71 of routers",
        "RIP has the address 224.0.0.9",
        "the block 240.17.34.51 is reserved",
        "L.ROOT-SERVERS.NET is now 199.7.83.42",
        "added AAAA 2001:500:a8::e for it",
        "route 138.255.0.0/16 and 82.195.133.0/25",
        "Listen 12.34.56.78:80",
        "neighbor 110.0.0.5:179 here",
        "138.255.68.72 # serverB.example.org",
        "for example, accept 18.107.22.69 first",
        "proxy http://123.45.67.89:8080/",
        "a /48 (2001:470:e857::/48) of a broker",
        "literal address (e.g.\n   rsync://[2001:638:500:101::21]:873/x)",
        "add [2002:c0a8:51d2::23f4] to it",
        "old 3ffe:1cfa:0:2:2a0:c9ff:fe9e:f56 there",
        "site-local fec0:1122:3344:5566:7788:99aa:bbcc:ddee",
    ],
)
def test_addresses_of_no_single_host_are_examples(text: str) -> None:
    assert {kind for kind, _ in found(text)} == {"ip_example"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Received: from sashimi.acme.org ([198.49.174.1]) by x", "198.49.174.1"),
        ("connect from unknown[209.226.175.56]", "209.226.175.56"),
        ("my ip is 81.2.9.14", "81.2.9.14"),
        ("from 5.9.14.20:52188 failed", "5.9.14.20"),
        ("* 173.162.192.156  2 u   11   64", "173.162.192.156"),
        ("http://8.9.14.20/x", "8.9.14.20"),
    ],
)
def test_addresses_of_hosts_are_found(text: str, address: str) -> None:
    assert found(text) == [("ip", address)]


@pytest.mark.parametrize(
    "text",
    [
        "follow @ada@mastodon.social there",
        "scp notes.txt deploy@web1.acme.org:/srv/www",
        "rsync ada@web1.acme.org:notes.txt .",
        "ssh -p 2222 ada@web1.acme.org",
        "git+ssh://anholt@git.freedesktop.org/git/xcb",
        "https://lore.kernel.org/r/20211011133704.1704369-1-b@kernel.org/",
        "Message-ID: <19990222083540.G1089@greenie.muc.de>",
        "References: <3rpugn$hjc@adson.sub.de>",
        "commit by 54562769.3090405@DemoRecorder.com there",
        "logo@2x.png, lodash@4.17.21, getty@tty1.service, peter@x.yz",
        "host/web1@ATHENA.MIT.EDU is a principal",
        "@pytest.mark.slow and @app.get",
    ],
)
def test_what_names_no_mailbox_is_no_email(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mail ada＠analytical.org now", "ada＠analytical.org"),
        ("ADMIN=faxadmin@werries.de", "faxadmin@werries.de"),
        ("at 05:30:28Z!eggert@cs.ucla.edu said", "eggert@cs.ucla.edu"),
        ("request(b'ada@analytical.org')", "ada@analytical.org"),
        ("send to\nkrb5-bugs@mit.edu.", "krb5-bugs@mit.edu"),
        ("<ero (dot) carrera (at) gmail (dot) com>", "ero (dot) carrera (at) gmail (dot) com"),
        ("sadie@witchery.services", "sadie@witchery.services"),
        ("pnagel@epiuse.co.za", "pnagel@epiuse.co.za"),
        ("x ada@ev.co.yu: gone", "ada@ev.co.yu"),
    ],
)
def test_mailboxes_are_found(text: str, address: str) -> None:
    assert found(text) == [("email", address)]


@pytest.mark.parametrize(
    "text",
    ["me@example.jp", "stevef@foo.bar", "your_email@gmail.com", "proxy@sip.somehost.com"],
)
def test_mailboxes_of_documentation_are_examples(text: str) -> None:
    assert found(text) == [("email_example", text)]


@pytest.mark.parametrize(
    "text",
    [
        "for a multi-cell character.  The 20030614 change",
        "makes 11 recursive calls\n3628800\n",
        "begin left-to-right text\n09/11 03/02 05/13 begin",
        "as in Clause 252.227-7013 (c) (1)",
        "SMS charset menu for 3310/3315 6.07",
        "Demonstrations, 2021, p. 122-131.",
        '{"rText":"Telephones","rValueUID":"24003426011"}',
        "phone = GSM* 101-164",
        'set ytics(12345)    # "+12345.000"',
        "4294967296, 18446744073709551616 and 1099511627776",
        "https://oss-fuzz.com/testcase-detail/5667125715927040",
        "EAN 4006381000093 of a pen",
        "sdb - 80.0 GB ST380021A",
    ],
)
def test_other_numbers_are_no_telephones_and_no_cards(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "kind", "number"),
    [
        ("call 020 7946 0958", "phone", "020 7946 0958"),
        ("Tel. 044 668 18 00", "phone", "044 668 18 00"),
        ("T 020 7946 0958", "phone", "020 7946 0958"),
        ("Bookings: 020 7946 0958", "phone", "020 7946 0958"),
        ("Empfang: 044 668 18 00", "phone", "044 668 18 00"),
        ("Natel 079 668 18 00", "phone", "079 668 18 00"),
        ("**Telefon**\n\n044 668 18 00", "phone", "044 668 18 00"),
        ("電話 tel: ０３－３２１０－７６５４", "phone", "０３－３２１０－７６５４"),
        ("paid with 4916337563921 today", "card", "4916337563921"),
        ("NINO AB123456C", "national_id", "AB123456C"),
        ("to='+15558675310'", "phone_example", "+15558675310"),
        ("a row 111-22-3333 of it", "national_id_example", "111-22-3333"),
        ("mysql://ser:ser_rw@db/ser", "login_example", "ser:ser_rw"),
        ("mysql://SAS_NAME:SAS_KEY@bus", "login_example", "SAS_NAME:SAS_KEY"),
        ("parse://AppID:MasterKey@Host", "login_example", "AppID:MasterKey"),
        ("parse://a_key:seed@Host", "login_example", "a_key:seed"),
        (
            "-----BEGIN PRIVATE KEY-----\n [base64 content] \n-----END PRIVATE KEY-----",
            "secret_example",
            "-----BEGIN PRIVATE KEY-----\n [base64 content] \n-----END PRIVATE KEY-----",
        ),
        ("mysql://ser:frog23@db/ser", "login", "ser:frog23"),
    ],
)
def test_numbers_are_found(text: str, kind: str, number: str) -> None:
    assert found(text) == [(kind, number)]


def test_the_second_number_of_two_is_found() -> None:
    text = "call 020 7946 0958 or 0161 496 0123"
    assert found(text) == [("phone", "020 7946 0958"), ("phone", "0161 496 0123")]


@pytest.mark.parametrize(
    "text",
    [
        "private_key: PKCS7PrivateKeyTypes,",
        "<encryption secret='6dd3e4a5-1d76-44ce-961f-f119f5aad935'/>",
    ],
)
def test_names_of_types_and_of_stored_secrets_are_no_secrets(text: str) -> None:
    assert found(text) == []


def test_full_width_signs_are_redacted_where_they_stand() -> None:
    text = "宛先：ada＠analytical.org まで"
    assert Redactor(frozenset(("email",))).redact(text) == "宛先：<EMAIL_1> まで"
