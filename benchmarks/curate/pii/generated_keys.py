"""Random keys, tokens and passwords in the formats of their issuers, and look-alikes.

The formats are those that the issuers publish, most of them for secret scanning; none of these was
ever issued. Nothing here is shared with ``components/text/pii/credentials.py``, which is measured.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Mapping

HEX = "0123456789abcdef"
LETTERS_DIGITS = string.ascii_letters + string.digits
URL_SAFE = LETTERS_DIGITS + "-_"
UPPER = string.ascii_uppercase + string.digits
LOWER = string.ascii_lowercase + string.digits

KeyMaker = Callable[[random.Random], str]


def random_text(draw: random.Random, alphabet: str, count: int) -> str:
    """Random characters of an alphabet.

    Args:
        draw: source of randomness.
        alphabet: characters to draw from.
        count: length of the text.
    """
    return "".join(draw.choices(alphabet, k=count))


def fill(pattern: str, *parts: tuple[str, int]) -> KeyMaker:
    """Maker of texts like ``pattern``, each ``{}`` filled from (alphabet, number of characters)."""
    return lambda draw: pattern.format(*(random_text(draw, *part) for part in parts))


def random_base64(draw: random.Random, count: int, *, url_safe: bool = False) -> str:
    """Random bytes in base 64.

    Args:
        draw: source of randomness.
        count: number of bytes.
        url_safe: the alphabet of URLs, without padding.
    """
    content = draw.randbytes(count)
    return (
        base64.urlsafe_b64encode(content).rstrip(b"=") if url_safe else base64.b64encode(content)
    ).decode()


def _web_token(draw: random.Random) -> str:
    claims = {
        "sub": str(draw.randrange(10**9)),
        "name": random_text(draw, LETTERS_DIGITS, 8),
        "iat": 1516239022,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    coded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join([*coded, random_base64(draw, 32, url_safe=True)])


def _pem_block(name: str) -> KeyMaker:
    def make(draw: random.Random) -> str:
        body = random_base64(draw, 600)
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----"])

    return make


def _slack(kind: str) -> KeyMaker:
    return fill(
        f"xox{kind}-{{}}-{{}}-{{}}", ("123456789", 12), ("123456789", 13), (LETTERS_DIGITS, 24)
    )


ISSUED_KEYS: Mapping[str, KeyMaker] = {
    "AWS access key": fill("AKIA{}", (UPPER, 16)),
    "AWS session key": fill("ASIA{}", (UPPER, 16)),
    "GitHub token": fill("ghp_{}", (LETTERS_DIGITS, 36)),
    "GitHub app token": fill("ghs_{}", (LETTERS_DIGITS, 36)),
    "GitHub OAuth token": fill("gho_{}", (LETTERS_DIGITS, 36)),
    "GitHub fine-grained token": fill(
        "github_pat_{}_{}", (LETTERS_DIGITS, 22), (LETTERS_DIGITS, 59)
    ),
    "GitLab token": fill("glpat-{}", (URL_SAFE, 20)),
    "GitLab routable token": fill("glpat-{}.01.{}", (URL_SAFE, 36), (LOWER, 9)),
    "GitLab runner token": fill("glrt-{}", (URL_SAFE, 20)),
    "Slack bot token": _slack("b"),
    "Slack user token": _slack("p"),
    "Slack app token": fill("xapp-1-A{}-{}-{}", (UPPER, 10), ("123456789", 13), (HEX, 64)),
    "Slack webhook": fill(
        "https://hooks.slack.com/services/T{}/B{}/{}", (UPPER, 8), (UPPER, 10), (LETTERS_DIGITS, 24)
    ),
    "Discord webhook": fill(
        "https://discord.com/api/webhooks/{}/{}", ("123456789", 18), (LETTERS_DIGITS, 68)
    ),
    "Google API key": fill("AIza{}", (URL_SAFE, 35)),
    "Google client secret": fill("GOCSPX-{}", (URL_SAFE, 28)),
    "Google OAuth token": fill("ya29.{}", (URL_SAFE, 120)),
    "Stripe key": fill("sk_live_{}", (LETTERS_DIGITS, 24)),
    "Stripe long key": fill("rk_live_{}", (LETTERS_DIGITS, 99)),
    "Stripe webhook secret": fill("whsec_{}", (LETTERS_DIGITS, 32)),
    "OpenAI key": fill("sk-{}T3BlbkFJ{}", (LETTERS_DIGITS, 20), (LETTERS_DIGITS, 20)),
    "OpenAI project key": fill("sk-proj-{}T3BlbkFJ{}", (URL_SAFE, 74), (URL_SAFE, 74)),
    "Anthropic key": fill("sk-ant-api03-{}AA", (URL_SAFE, 93)),
    "OpenRouter key": fill("sk-or-v1-{}", (HEX, 64)),
    "DeepSeek key": fill("sk-{}", (HEX, 32)),
    "Groq key": fill("gsk_{}", (LETTERS_DIGITS, 52)),
    "xAI key": fill("xai-{}", (LETTERS_DIGITS, 80)),
    "Perplexity key": fill("pplx-{}", (LETTERS_DIGITS, 48)),
    "Replicate token": fill("r8_{}", (LETTERS_DIGITS, 37)),
    "Hugging Face token": fill("hf_{}", (string.ascii_letters, 34)),
    "npm token": fill("npm_{}", (LETTERS_DIGITS, 36)),
    "PyPI token": fill("pypi-AgEIcHlwaS5vcmc{}", (URL_SAFE, 150)),
    "RubyGems key": fill("rubygems_{}", (HEX, 48)),
    "Docker token": fill("dckr_pat_{}", (URL_SAFE, 27)),
    "SendGrid key": fill("SG.{}.{}", (URL_SAFE, 22), (URL_SAFE, 43)),
    "Mailgun key": fill("key-{}", (HEX, 32)),
    "Mailchimp key": fill("{}-us12", (HEX, 32)),
    "Twilio key": fill("SK{}", (HEX, 32)),
    "DigitalOcean token": fill("dop_v1_{}", (HEX, 64)),
    "Shopify token": fill("shpat_{}", (HEX, 32)),
    "Square token": fill("sq0atp-{}", (URL_SAFE, 22)),
    "Databricks token": fill("dapi{}", (HEX, 32)),
    "Vault token": fill("hvs.{}", (URL_SAFE, 95)),
    "Linear key": fill("lin_api_{}", (LETTERS_DIGITS, 40)),
    "Notion token": fill("ntn_{}", (LETTERS_DIGITS, 46)),
    "Figma token": fill("figd_{}", (URL_SAFE, 40)),
    "Postman key": fill("PMAK-{}-{}", (HEX, 24), (HEX, 34)),
    "New Relic key": fill("NRAK-{}", (UPPER, 27)),
    "Grafana token": fill("glsa_{}_{}", (LETTERS_DIGITS, 32), (HEX, 8)),
    "Sentry token": lambda draw: (
        f"sntrys_eyJ{random_text(draw, LETTERS_DIGITS, 120)}"
        f"_{random_text(draw, LETTERS_DIGITS, 43)}"
    ),
    "Doppler token": fill("dp.pt.{}", (LETTERS_DIGITS, 43)),
    "PlanetScale token": fill("pscale_tkn_{}", (URL_SAFE, 43)),
    "Supabase token": fill("sbp_{}", (HEX, 40)),
    "Tailscale key": fill("tskey-auth-{}-{}", (LETTERS_DIGITS, 12), (LETTERS_DIGITS, 32)),
    "Pulumi token": fill("pul-{}", (HEX, 40)),
    "Terraform token": fill("{}.atlasv1.{}", (LETTERS_DIGITS, 14), (LETTERS_DIGITS, 67)),
    "Alibaba key": fill("LTAI{}", (LETTERS_DIGITS, 20)),
    "Atlassian token": fill("ATATT3xFfGF0{}={}", (URL_SAFE, 170), (string.digits + "ABCDEF", 8)),
    "age key": fill("AGE-SECRET-KEY-1{}", ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    "Telegram token": fill("{}:AA{}", ("123456789", 10), (URL_SAFE, 33)),
    "web token": _web_token,
    "RSA private key": _pem_block("RSA PRIVATE KEY"),
    "private key": _pem_block("PRIVATE KEY"),
    "OpenSSH private key": _pem_block("OPENSSH PRIVATE KEY"),
    "PGP private key": _pem_block("PGP PRIVATE KEY BLOCK"),
}
"""Kind -> maker of keys that are recognizable by their format alone."""

ASSIGNED_KEYS: Mapping[str, tuple[str, KeyMaker]] = {
    "quoted, Python": ('API_KEY = "{}"', fill("{}", (LETTERS_DIGITS, 32))),
    "quoted, JSON": ('{{"client_secret": "{}", "port": 8080}}', fill("{}", (URL_SAFE, 40))),
    "quoted, JavaScript": ("const config = {{ apiKey: '{}' }};", fill("{}", (HEX, 32))),
    "quoted password": ('password="{}"', fill("{}", (LETTERS_DIGITS + "!@#$%^&*", 16))),
    "AWS secret": ("aws_secret_access_key = {}", lambda draw: random_base64(draw, 30)),
    "AWS secret, quoted": (
        "AWS_SECRET_ACCESS_KEY='{}'",
        lambda draw: random_base64(draw, 30),
    ),
    "environment": ("export SERVICE_API_KEY={}", fill("{}", (HEX, 40))),
    "environment file": ("DB_PASSWORD={}", fill("{}", (LETTERS_DIGITS, 24))),
    "YAML": ("auth:\n  access_token: {}\n", fill("{}", (LETTERS_DIGITS, 40))),
    "properties": ("signing.secret-key = {}", fill("{}", (HEX, 64))),
    "bearer": ('-H "Authorization: Bearer {}"', fill("{}", (LETTERS_DIGITS, 48))),
    "basic": ("Authorization: Basic {}", lambda draw: random_base64(draw, 24)),
    "Azure storage": (
        "DefaultEndpointsProtocol=https;AccountName=store;AccountKey={};EndpointSuffix=core",
        lambda draw: random_base64(draw, 64),
    ),
}
"""Kind -> (assignment, maker of its value) of keys that only the name gives away."""

CHOSEN_PASSWORDS = (
    "Summer{}!rain",
    "blue-horse-{}",
    "Tr0ub4dor&{}",
    "letmein{}please",
    "Munich{}Munich",
)
"""Passwords as people choose them, with a place for a number."""

LOOKALIKES: Mapping[str, KeyMaker] = {
    "MD5": fill("md5: {}", (HEX, 32)),
    "SHA-1": fill("commit {}", (HEX, 40)),
    "SHA-256": fill("sha256:{}", (HEX, 64)),
    "pinned hash": fill("requests==2.31.0 --hash=sha256:{}", (HEX, 64)),
    "subresource": lambda d: f'"integrity": "sha512-{random_base64(d, 64)}"',
    "UUID": fill('"id": "{}-{}-4{}-a{}-{}"', (HEX, 8), (HEX, 4), (HEX, 3), (HEX, 3), (HEX, 12)),
    "image": lambda d: f"url(data:image/png;base64,iVBORw0KGgo{random_base64(d, 300)})",
    "certificate": _pem_block("CERTIFICATE"),
    "public key": _pem_block("PUBLIC KEY"),
    "SSH public key": lambda d: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{random_base64(d, 36)} ada@host",
    "ETag": fill('ETag: "{}"', (HEX, 32)),
    "cache key": fill("cache_key = '{}'", (HEX, 32)),
    "primary key": fill("primary_key: {}", (LETTERS_DIGITS, 24)),
    "public API key": fill('"publishable": "pk_test_{}"', (LETTERS_DIGITS, 24)),
    "trace": fill("traceparent: 00-{}-{}-01", (HEX, 32), (HEX, 16)),
    "page token": fill("next_page={}", (URL_SAFE, 40)),
    "ARN": fill("arn:aws:kms:eu-central-1:{}:key/{}", (string.digits, 12), (HEX, 8)),
    "video": fill("https://www.youtube.com/watch?v={}", (URL_SAFE, 11)),
    "style": fill('class="sk-circle-fade sk-grid-{} css-{}"', (LOWER, 6), (LOWER, 10)),
    "digest of an image": fill("image: nginx@sha256:{}", (HEX, 64)),
    "wheel": fill(
        "https://files.example.org/packages/{}/{}/{}/x.whl", (HEX, 2), (HEX, 2), (HEX, 60)
    ),
    "placeholder": lambda _: "api_key='YOUR_API_KEY'",
    "placeholder of a prefix": lambda _: "OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx1234",
    "example of AWS": lambda _: "AKIAIOSFODNN7EXAMPLE / wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "variable": lambda _: 'token = "${GITHUB_TOKEN_2}" or secret_key: $SECRET_KEY_PROD1',
    "environment read": lambda _: 'client_secret = os.environ["CLIENT_SECRET_V2"]',
    "call": lambda _: "password = getpass.getpass(prompt='Password 2: ')",
    "attribute": lambda _: "access_token: config.settings2.auth.access_token_v2",
    "template": lambda _: "password: {{ vault_database_password_2024 }}",
    "angle brackets": lambda _: "Authorization: Bearer <your-access-token-here-1>",
    "words": lambda _: "access_key=first-level-resource-name-of-version-2",
    "words in quotes": lambda _: 'password: "at least 12 characters"',
    "name of a secret": lambda _: (
        'secretKeyRef: {name: "database-credentials-v2", key: "password"}'
    ),
    "path": lambda _: "private_key = /etc/ssl/private/server1.example.key.pem",
}
"""Kind -> maker of texts that are no credential: hashes, identifiers, placeholders, variables."""
