"""Keys, tokens and passwords as they are issued, made up by chance, and what only looks like one.

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
ALNUM = string.ascii_letters + string.digits
URL = ALNUM + "-_"
UPPER = string.ascii_uppercase + string.digits
LOWER = string.ascii_lowercase + string.digits

Make = Callable[[random.Random], str]


def some(draw: random.Random, alphabet: str, count: int) -> str:
    """``count`` signs."""
    return "".join(draw.choices(alphabet, k=count))


def of(pattern: str, *parts: tuple[str, int]) -> Make:
    """``pattern`` with each ``{}`` filled by so many signs of an alphabet."""
    return lambda draw: pattern.format(*(some(draw, *part) for part in parts))


def base64_of(draw: random.Random, count: int, *, url: bool = False) -> str:
    """``count`` random bytes in base 64."""
    made = draw.randbytes(count)
    return (base64.urlsafe_b64encode(made).rstrip(b"=") if url else base64.b64encode(made)).decode()


def _web_token(draw: random.Random) -> str:
    told = {"sub": str(draw.randrange(10**9)), "name": some(draw, ALNUM, 8), "iat": 1516239022}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, told)]
    coded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join([*coded, base64_of(draw, 32, url=True)])


def _block(name: str) -> Make:
    def make(draw: random.Random) -> str:
        body = base64_of(draw, 600)
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----"])

    return make


def _slack(kind: str) -> Make:
    return of(f"xox{kind}-{{}}-{{}}-{{}}", ("123456789", 12), ("123456789", 13), (ALNUM, 24))


ISSUED: Mapping[str, Make] = {
    "AWS access key": of("AKIA{}", (UPPER, 16)),
    "AWS session key": of("ASIA{}", (UPPER, 16)),
    "GitHub token": of("ghp_{}", (ALNUM, 36)),
    "GitHub app token": of("ghs_{}", (ALNUM, 36)),
    "GitHub OAuth token": of("gho_{}", (ALNUM, 36)),
    "GitHub fine-grained token": of("github_pat_{}_{}", (ALNUM, 22), (ALNUM, 59)),
    "GitLab token": of("glpat-{}", (URL, 20)),
    "GitLab routable token": of("glpat-{}.01.{}", (URL, 36), (LOWER, 9)),
    "GitLab runner token": of("glrt-{}", (URL, 20)),
    "Slack bot token": _slack("b"),
    "Slack user token": _slack("p"),
    "Slack app token": of("xapp-1-A{}-{}-{}", (UPPER, 10), ("123456789", 13), (HEX, 64)),
    "Slack webhook": of(
        "https://hooks.slack.com/services/T{}/B{}/{}", (UPPER, 8), (UPPER, 10), (ALNUM, 24)
    ),
    "Discord webhook": of("https://discord.com/api/webhooks/{}/{}", ("123456789", 18), (ALNUM, 68)),
    "Google API key": of("AIza{}", (URL, 35)),
    "Google client secret": of("GOCSPX-{}", (URL, 28)),
    "Google OAuth token": of("ya29.{}", (URL, 120)),
    "Stripe key": of("sk_live_{}", (ALNUM, 24)),
    "Stripe long key": of("rk_live_{}", (ALNUM, 99)),
    "Stripe webhook secret": of("whsec_{}", (ALNUM, 32)),
    "OpenAI key": of("sk-{}T3BlbkFJ{}", (ALNUM, 20), (ALNUM, 20)),
    "OpenAI project key": of("sk-proj-{}T3BlbkFJ{}", (URL, 74), (URL, 74)),
    "Anthropic key": of("sk-ant-api03-{}AA", (URL, 93)),
    "OpenRouter key": of("sk-or-v1-{}", (HEX, 64)),
    "DeepSeek key": of("sk-{}", (HEX, 32)),
    "Groq key": of("gsk_{}", (ALNUM, 52)),
    "xAI key": of("xai-{}", (ALNUM, 80)),
    "Perplexity key": of("pplx-{}", (ALNUM, 48)),
    "Replicate token": of("r8_{}", (ALNUM, 37)),
    "Hugging Face token": of("hf_{}", (string.ascii_letters, 34)),
    "npm token": of("npm_{}", (ALNUM, 36)),
    "PyPI token": of("pypi-AgEIcHlwaS5vcmc{}", (URL, 150)),
    "RubyGems key": of("rubygems_{}", (HEX, 48)),
    "Docker token": of("dckr_pat_{}", (URL, 27)),
    "SendGrid key": of("SG.{}.{}", (URL, 22), (URL, 43)),
    "Mailgun key": of("key-{}", (HEX, 32)),
    "Mailchimp key": of("{}-us12", (HEX, 32)),
    "Twilio key": of("SK{}", (HEX, 32)),
    "DigitalOcean token": of("dop_v1_{}", (HEX, 64)),
    "Shopify token": of("shpat_{}", (HEX, 32)),
    "Square token": of("sq0atp-{}", (URL, 22)),
    "Databricks token": of("dapi{}", (HEX, 32)),
    "Vault token": of("hvs.{}", (URL, 95)),
    "Linear key": of("lin_api_{}", (ALNUM, 40)),
    "Notion token": of("ntn_{}", (ALNUM, 46)),
    "Figma token": of("figd_{}", (URL, 40)),
    "Postman key": of("PMAK-{}-{}", (HEX, 24), (HEX, 34)),
    "New Relic key": of("NRAK-{}", (UPPER, 27)),
    "Grafana token": of("glsa_{}_{}", (ALNUM, 32), (HEX, 8)),
    "Sentry token": lambda draw: f"sntrys_eyJ{some(draw, ALNUM, 120)}_{some(draw, ALNUM, 43)}",
    "Doppler token": of("dp.pt.{}", (ALNUM, 43)),
    "PlanetScale token": of("pscale_tkn_{}", (URL, 43)),
    "Supabase token": of("sbp_{}", (HEX, 40)),
    "Tailscale key": of("tskey-auth-{}-{}", (ALNUM, 12), (ALNUM, 32)),
    "Pulumi token": of("pul-{}", (HEX, 40)),
    "Terraform token": of("{}.atlasv1.{}", (ALNUM, 14), (ALNUM, 67)),
    "Alibaba key": of("LTAI{}", (ALNUM, 20)),
    "Atlassian token": of("ATATT3xFfGF0{}={}", (URL, 170), (string.digits + "ABCDEF", 8)),
    "age key": of("AGE-SECRET-KEY-1{}", ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    "Telegram token": of("{}:AA{}", ("123456789", 10), (URL, 33)),
    "web token": _web_token,
    "RSA private key": _block("RSA PRIVATE KEY"),
    "private key": _block("PRIVATE KEY"),
    "OpenSSH private key": _block("OPENSSH PRIVATE KEY"),
    "PGP private key": _block("PGP PRIVATE KEY BLOCK"),
}
"""Keys that stand for themselves."""

ASSIGNED: Mapping[str, tuple[str, Make]] = {
    "quoted, Python": ('API_KEY = "{}"', of("{}", (ALNUM, 32))),
    "quoted, JSON": ('{{"client_secret": "{}", "port": 8080}}', of("{}", (URL, 40))),
    "quoted, JavaScript": ("const config = {{ apiKey: '{}' }};", of("{}", (HEX, 32))),
    "quoted password": ('password="{}"', of("{}", (ALNUM + "!@#$%^&*", 16))),
    "AWS secret": ("aws_secret_access_key = {}", lambda draw: base64_of(draw, 30)),
    "AWS secret, quoted": (
        "AWS_SECRET_ACCESS_KEY='{}'",
        lambda draw: base64_of(draw, 30),
    ),
    "environment": ("export SERVICE_API_KEY={}", of("{}", (HEX, 40))),
    "environment file": ("DB_PASSWORD={}", of("{}", (ALNUM, 24))),
    "YAML": ("auth:\n  access_token: {}\n", of("{}", (ALNUM, 40))),
    "properties": ("signing.secret-key = {}", of("{}", (HEX, 64))),
    "bearer": ('-H "Authorization: Bearer {}"', of("{}", (ALNUM, 48))),
    "basic": ("Authorization: Basic {}", lambda draw: base64_of(draw, 24)),
    "Azure storage": (
        "DefaultEndpointsProtocol=https;AccountName=store;AccountKey={};EndpointSuffix=core",
        lambda draw: base64_of(draw, 64),
    ),
}
"""Keys that only their name tells: how they are written, and what stands there."""

CHOSEN = ("Summer{}!rain", "blue-horse-{}", "Tr0ub4dor&{}", "letmein{}please", "Munich{}Munich")
"""Passwords as people choose them, with a number."""

ALIKE: Mapping[str, Make] = {
    "MD5": of("md5: {}", (HEX, 32)),
    "SHA-1": of("commit {}", (HEX, 40)),
    "SHA-256": of("sha256:{}", (HEX, 64)),
    "pinned hash": of("requests==2.31.0 --hash=sha256:{}", (HEX, 64)),
    "subresource": lambda d: f'"integrity": "sha512-{base64_of(d, 64)}"',
    "UUID": of('"id": "{}-{}-4{}-a{}-{}"', (HEX, 8), (HEX, 4), (HEX, 3), (HEX, 3), (HEX, 12)),
    "image": lambda d: f"url(data:image/png;base64,iVBORw0KGgo{base64_of(d, 300)})",
    "certificate": _block("CERTIFICATE"),
    "public key": _block("PUBLIC KEY"),
    "SSH public key": lambda d: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5{base64_of(d, 36)} ada@host",
    "ETag": of('ETag: "{}"', (HEX, 32)),
    "cache key": of("cache_key = '{}'", (HEX, 32)),
    "primary key": of("primary_key: {}", (ALNUM, 24)),
    "public API key": of('"publishable": "pk_test_{}"', (ALNUM, 24)),
    "trace": of("traceparent: 00-{}-{}-01", (HEX, 32), (HEX, 16)),
    "page token": of("next_page={}", (URL, 40)),
    "ARN": of("arn:aws:kms:eu-central-1:{}:key/{}", (string.digits, 12), (HEX, 8)),
    "video": of("https://www.youtube.com/watch?v={}", (URL, 11)),
    "style": of('class="sk-circle-fade sk-grid-{} css-{}"', (LOWER, 6), (LOWER, 10)),
    "digest of an image": of("image: nginx@sha256:{}", (HEX, 64)),
    "wheel": of("https://files.example.org/packages/{}/{}/{}/x.whl", (HEX, 2), (HEX, 2), (HEX, 60)),
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
"""What is none. Made ones differ each time; those of words are written as documentation does."""
