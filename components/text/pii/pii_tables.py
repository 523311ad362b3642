"""Tables of the detectors: prefixes and lengths that exist, and examples of documentation.

Sources: RFC 2606 and 6761 (reserved domains), ITU-T E.164 (calling codes), the SWIFT IBAN registry
(lengths), the card networks' published test numbers, IANA (root servers).
"""

from __future__ import annotations


def _each(words: str) -> frozenset[str]:
    return frozenset(words.split())


EXAMPLE_DOMAINS = _each(
    "test.com domain.tld company.com email.com host.com site.com localhost.localdomain acme.com"
)
EXAMPLE_HOSTS = _each(
    "example domain mydomain yourdomain somedomain otherdomain anydomain foo bar baz foobar "
    "mycompany yourcompany somecompany myhost yourhost somehost mysite yoursite somewhere nowhere"
)
"""Names below any suffix: ``example.jp``, ``foo.bar``."""
EXAMPLE_NAMES = _each(
    "user username name yourname your.name you me someone somebody john.doe jane.doe johndoe foo "
    "bar example test sender recipient noreply no-reply git nobody myname "
    "yourself someguy someuser myuser me.myself foo.bar "
    "first.last firstname.lastname name.surname email.address my.email"
)
EXAMPLE_USERS = _each(
    "user username usr myuser someuser scott root admin guest anonymous login me foo name u test "
    "pass passwd password pwd mypass mypassword somepassword tiger secret p pw hostname "
    "postgres mysql sa bar baz token abc abc123 123 1234 12345 changeme qwerty toor"
)
PUBLIC_SERVICES = _each(
    "1.1.1.1 1.0.0.1 8.8.8.8 8.8.4.4 9.9.9.9 149.112.112.112 208.67.222.222 208.67.220.220 "
    "4.2.2.1 4.2.2.2 "
    "198.41.0.4 170.247.170.2 199.9.14.201 192.228.79.201 192.33.4.12 199.7.91.13 128.8.10.90 "
    "192.203.230.10 192.5.5.241 192.112.36.4 198.97.190.53 128.63.2.53 192.36.148.17 "
    "192.58.128.30 193.0.14.129 199.7.83.42 202.12.27.33 "
    "2606:4700:4700::1111 2606:4700:4700::1001 2001:4860:4860::8888 2001:4860:4860::8844 "
    "2620:fe::fe 2620:fe::9 "
    "2001:503:ba3e::2:30 2801:1b8:10::b 2001:500:200::b 2001:500:84::b 2001:500:2::c "
    "2001:500:2d::d 2001:500:a8::e 2001:500:2f::f 2001:500:12::d0d 2001:500:1::53 2001:7fe::53 "
    "2001:503:c27::2:30 2001:7fd::1 2001:500:9f::42 2001:500:3::42 2001:dc3::35"
)
"""Open resolvers, and the root servers (IANA, named.root) with the numbers they had before."""
EXAMPLE_CARDS = frozenset(
    (
        "4111111111111111",
        "4012888888881881",
        "4242424242424242",
        "4000056655665556",
        "4222222222222",
        "5555555555554444",
        "5105105105105100",
        "5200828282828210",
        "2223003122003222",
        "378282246310005",
        "371449635398431",
        "6011111111111117",
        "6011000990139424",
        "3566002020360505",
        "3530111333300000",
        "30569309025904",
        "38520000023237",
    )
)
EXAMPLE_IBANS = frozenset(
    (
        "GB82WEST12345698765432",
        "GB29NWBK60161331926819",
        "GB33BUKB20201555555555",
        "DE89370400440532013000",
        "FR1420041010050500013M02606",
        "NL91ABNA0417164300",
        "ES9121000418450200051332",
        "CH9300762011623852957",
        "BE68539007547034",
        "AT611904300234573201",
        "IT60X0542811101000000123456",
    )
)
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BR": 29, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20,
    "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27,
    "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30,
    "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22,
    "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VG": 24, "XK": 20,
}  # fmt: skip
CALLING_CODES = _each(
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 "
    "63 64 65 66 81 82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 "
    "227 228 229 230 231 232 233 234 235 236 237 238 239 240 241 242 243 244 245 246 248 249 250 "
    "251 252 253 254 255 256 257 258 260 261 262 263 264 265 266 267 268 269 290 291 297 298 299 "
    "350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 380 381 382 383 "
    "385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 "
    "596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 "
    "691 692 850 852 853 855 856 880 886 960 961 962 963 964 965 966 967 968 970 971 972 973 974 "
    "975 976 977 992 993 994 995 996 998"
)
