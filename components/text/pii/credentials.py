"""Detection of keys, tokens and passwords in text.

Three ways to tell one: the prefix that its issuer gives it (the formats are published, most for
secret scanning), a block that names itself (private keys), and an assignment to a name such as
``api_key`` of a value that is as random as keys are: bits a character, Shannon 1948.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from components.text.pii.pii_tables import EXAMPLE_USERS
from components.text.spans import Span, make_span


def _key(body: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){body}(?![\w-])")


_ISSUED = (  # a string that every key of the kind holds, quick to look for, and its pattern
    ("AKIA", _key(r"AKIA[A-Z0-9]{16}")),  # AWS
    ("ASIA", _key(r"ASIA[A-Z0-9]{16}")),
    *((f"gh{kind}_", _key(rf"gh{kind}_[A-Za-z0-9]{{36,255}}")) for kind in "pousr"),  # GitHub
    ("github_pat_", _key(r"github_pat_[A-Za-z0-9_]{22,255}")),
    ("glpat-", _key(r"glpat-[\w-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?")),  # GitLab
    ("gldt-", _key(r"gldt-[\w-]{20,}")),
    ("glrt-", _key(r"glrt-[\w-]{20,}")),
    ("xox", _key(r"xox[abeoprs]-[A-Za-z0-9-]{10,}")),  # Slack
    ("xapp-", _key(r"xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{20,}")),
    (
        "hooks.slack.com",
        re.compile(
            r"https://hooks\.slack\.com/(?:services/T\w{7,}/B\w{7,}/\w{20,}|workflows/[\w/]{20,})"
        ),
    ),
    (
        "discord",
        re.compile(r"https://discord(?:app)?\.com/api/webhooks/\d{15,21}/[\w-]{50,}"),
    ),
    ("AIza", _key(r"AIza[\w-]{35}")),  # Google
    ("GOCSPX-", _key(r"GOCSPX-[\w-]{24,}")),
    ("ya29.", _key(r"ya29\.[\w-]{30,}")),
    ("_live_", _key(r"[srp]k_live_[A-Za-z0-9]{16,}")),  # Stripe
    ("_test_", _key(r"[srp]k_test_[A-Za-z0-9]{16,}")),
    ("whsec_", _key(r"whsec_[A-Za-z0-9+/=]{24,}")),
    ("sk-", _key(r"sk-(?:proj-|ant-|svcacct-|or-v1-)?(?=[\w-]*\d)[\w-]{20,}")),  # OpenAI, Anthropic
    ("gsk_", _key(r"gsk_[A-Za-z0-9]{40,}")),  # Groq
    ("hf_", _key(r"hf_[A-Za-z0-9]{30,}")),  # Hugging Face
    ("npm_", _key(r"npm_[A-Za-z0-9]{36}")),
    ("pypi-", _key(r"pypi-AgEI[\w-]{50,}")),
    ("SG.", _key(r"SG\.[\w-]{16,32}\.[\w-]{32,64}")),  # SendGrid
    ("key-", _key(r"key-[0-9a-f]{32}")),  # Mailgun
    ("", re.compile(r"(?:SK|AC)(?<![\w-]..)[0-9a-f]{32}(?!\w)")),  # Twilio
    ("_v1_", _key(r"do[por]_v1_[0-9a-f]{64}")),  # DigitalOcean
    ("shp", _key(r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}")),  # Shopify
    ("sq0", _key(r"sq0(?:atp|csp|idp)-[\w-]{22,43}")),  # Square
    ("dapi", _key(r"dapi[0-9a-f]{32}(?:-\d)?")),  # Databricks
    ("hvs.", _key(r"hvs\.[\w-]{24,}")),  # Vault
    ("lin_api_", _key(r"lin_api_[A-Za-z0-9]{40}")),
    ("ATATT3", _key(r"ATATT3[\w=-]{50,}")),  # Atlassian
    ("AGE-SECRET-KEY-", _key(r"AGE-SECRET-KEY-1[0-9A-Z]{58}")),
    ("xai-", _key(r"xai-[A-Za-z0-9]{64,}")),
    ("pplx-", _key(r"pplx-[A-Za-z0-9]{40,}")),  # Perplexity
    ("r8_", _key(r"r8_[A-Za-z0-9]{37}")),  # Replicate
    ("rubygems_", _key(r"rubygems_[0-9a-f]{48}")),
    ("dckr_", _key(r"dckr_[po]at_[\w-]{24,}")),  # Docker
    ("-us", _key(r"[0-9a-f]{32}-us\d{1,2}")),  # Mailchimp
    ("ntn_", _key(r"ntn_[A-Za-z0-9]{40,}")),  # Notion
    ("figd_", _key(r"figd_[\w-]{38,}")),  # Figma
    ("PMAK-", _key(r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}")),  # Postman
    ("NRAK-", _key(r"NRAK-[A-Z0-9]{27}")),  # New Relic
    ("glsa_", _key(r"glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}")),  # Grafana
    ("sntry", _key(r"sntry[su]_[\w=+/-]{60,}")),  # Sentry
    ("dp.", _key(r"dp\.(?:pt|ct|sa|scim|audit|st\.[\w-]+)\.[A-Za-z0-9]{40,44}")),  # Doppler
    ("pscale_", _key(r"pscale_(?:tkn|pw|oauth)_[\w.-]{32,64}")),  # PlanetScale
    ("sbp_", _key(r"sbp_[0-9a-f]{40}")),  # Supabase
    ("tskey-", _key(r"tskey-[a-z]+-[A-Za-z0-9]+-[A-Za-z0-9]{20,}")),  # Tailscale
    ("pul-", _key(r"pul-[0-9a-f]{40}")),  # Pulumi
    (".atlasv1.", _key(r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}")),  # Terraform
    ("LTAI", _key(r"LTAI(?=[A-Za-z]*\d)[A-Za-z0-9]{16,20}")),  # Alibaba
    (":AA", re.compile(r"(?<![\w-])\d{8,10}:AA[\w-]{33}(?![\w-])")),  # Telegram
    ("AccountKey=", re.compile(r"(?<=AccountKey=)[A-Za-z0-9+/]{80,90}={0,2}")),  # Azure
    ("eyJ", re.compile(r"(?<![\w.])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),  # JSON web token
    (
        "PRIVATE KEY",
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\S]{16,8000}?"
            r"-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
        ),
    ),
)
_QUOTED = re.compile(r"[:=]\s{0,4}[\"']([^\"'\s]{12,128})[\"']")
_BARE = re.compile(r"(?:=|:[ \t])[ \t]{0,3}([A-Za-z0-9+/_.~!@#$%^&*-]{16,128}={0,2})(?=[\s,;]|$)")
_BEARER = re.compile(r"(?:Bearer|Basic|token)[ ]([A-Za-z0-9+/_.~-]{16,256}={0,2})(?![\w/+=-])")
_ASSIGNED_TO = re.compile(
    r"(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|(?:access|auth|api|bearer|refresh|bot)"
    r"[_-]?token|[_-]token|passw(?:or)?d|passphrase|pwd|private[_-]?key|client[_-]?secret|"
    r"(?:encryption|signing|account|access)[_-]?key)[\"']?\s*$",
    re.IGNORECASE,
)
_HEADER = re.compile(r"authorization[\"']?\s*[:=,]\s*[\"']?$", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"example|x{4,}|your|\.\.\.|<|\[ ?[a-z][\w ]*\]|\*{3}|0{6,}|1234567|"
    r"secret|password|test|dummy|fake|changeme",
    re.IGNORECASE,
)
_FIELD_NAME = re.compile(
    r"^[A-Z]+(?:_[A-Z]+)+$|^pass\b|^seed$|[Tt]oken$|[Kk]ey$|[a-z]ID$|^[A-Z]+ID$"
)
"""Names of what belongs there: ``AppID:MasterKey``, ``public_key:seed``."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""``secret='UUID'`` names a secret that is kept elsewhere (libvirt); an ``api_key`` may be one."""
_MIN_ENTROPY, _MIN_BARE_ENTROPY = 3.2, 3.5
"""Bits a character of an assigned value; words and phrases lie below, random keys above."""
_LOGIN = re.compile(r"(?<=://)([^\s/:@'\"<>]{1,64}):([^\s/@'\"<>]{1,64})(?=@[\w\[])")


def find_secrets(text: str) -> Iterator[Span]:
    """Find keys, tokens and passwords: spans of kind ``secret``."""
    for prefix, pattern in _ISSUED:
        if prefix in text:
            for match in pattern.finditer(text):
                own = match[0].removeprefix(prefix)  # AGE-SECRET-KEY- is no placeholder
                yield make_span(match.span(), "secret", bool(_PLACEHOLDER.search(own)))
    for match in _QUOTED.finditer(text):
        if _is_assigned_to_secret(text, match) and bits_per_character(match[1]) >= _MIN_ENTROPY:
            yield _secret_span(match)
    for match in _BARE.finditer(text):
        if _is_assigned_to_secret(text, match) and _is_random(match[1]):
            yield _secret_span(match)
    for match in _BEARER.finditer(text) if "uthorization" in text else ():
        before = text[max(0, match.start() - 24) : match.start()]
        if _HEADER.search(before) and bits_per_character(match[1]) >= _MIN_ENTROPY:
            yield _secret_span(match)


def find_logins(text: str) -> Iterator[Span]:
    """Find user and password in an address (RFC 3986, section 3.2.1): spans of kind ``login``."""
    if "://" in text:
        for match in _LOGIN.finditer(text):
            yield make_span(match.span(), "login", _is_placeholder(match[1], match[2]))


def _is_placeholder(user: str, password: str) -> bool:
    """True for a password that is none: a word for one, a variable, the user's name again."""
    user, word = user.lower(), password.lower()
    return bool(
        word in EXAMPLE_USERS
        or _PLACEHOLDER.search(word)
        or word.startswith(user)
        or re.search(r"[{}$\[\]]", user + word)
        or _FIELD_NAME.search(password)
    )


def bits_per_character(value: str) -> float:
    """Shannon entropy of a value's own characters, in bits per character."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


def _is_assigned_to_secret(text: str, match: re.Match[str]) -> bool:
    if not any(map(str.isdigit, match[1])):
        return False
    name = _ASSIGNED_TO.search(text[max(0, match.start() - 24) : match.start()])
    if name is None:
        return False
    return not (_UUID.fullmatch(match[1]) and name[0].lower().startswith("secret"))


def _is_random(value: str) -> bool:
    """True for a value too random for code: without quotes it may be a call, a path, a name."""
    mixed = any(map(str.isupper, value)) or re.fullmatch(r"[0-9a-f-]{24,}", value)
    dotted = re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value)
    words = re.fullmatch(r"[A-Z0-9]{0,6}(?:[A-Z][a-z]{2,}\d?){2,}", value)
    return (
        bool(mixed) and not dotted and not words and bits_per_character(value) >= _MIN_BARE_ENTROPY
    )


def _secret_span(match: re.Match[str]) -> Span:
    return make_span(match.span(1), "secret", bool(_PLACEHOLDER.search(match[1])))
