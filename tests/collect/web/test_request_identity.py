"""A user's own headers, cookies, proxy and authorities: sent where they may be, written nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from benchmarks.curate.web.http_situations import build_response
from benchmarks.curate.web.raw_site import open_raw_site
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.core.errors import ConfigError, DataError
from components.core.log import mask_secrets
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, ledger

SECRET = "s3cr3t-of-the-wiki"


def crawl_config(seed: str, **fields: object) -> ScrapeConfig:
    values = {
        "as_of": NOW,
        "seeds": [seed],
        "allow_private": True,
        "delay_seconds": 0,
        "retries": 0,
        "max_failed_share": 1,
        "shards": 1,
    }
    return ScrapeConfig(**{**values, **fields})


def files_of(work: Workdir) -> bytes:
    """All bytes of a workspace, archives unpacked as a reader would see them."""
    import gzip

    contents = []
    for path in sorted(work.root.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            contents.append(gzip.decompress(content) if path.suffix == ".gz" else content)
    return b"\n".join(contents)


def test_own_headers_and_cookies_go_to_own_hosts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKI_TOKEN", SECRET)
    monkeypatch.setenv("WIKI_SESSION", f"{SECRET}-cookie")
    with (
        open_raw_site({"/in": build_response(LONG)}, host="127.0.0.2") as other,
        open_raw_site({}) as site,
    ):
        away = build_response("", f"Location: {other.url}/in", status="302 Found")
        site.answers |= {"/": build_response(f'<a href="/away">x</a>{LONG}'), "/away": away}
        config = crawl_config(
            f"{site.url}/",
            hosts=["127.0.0.2"],
            headers={
                "Authorization": "Bearer ${WIKI_TOKEN}",
                "accept": "text/html",
                "X-Name": "caf\u00e9",
            },
            cookies={"session": "${WIKI_SESSION}"},
        )
        work = Workdir.temporary(tmp_path / "store")
        pages = scrape(config, work)
    rows = ledger(work, pages)
    assert rows["in"]["reason"] == ""
    for head in site.requests:
        assert f"Authorization: Bearer {SECRET}\r\n".encode() in head
        assert f"Cookie: session={SECRET}-cookie\r\n".encode() in head
        assert b"accept: text/html\r\n" in head
        assert b"Accept: " not in head
        assert "X-Name: caf\u00e9".encode() in head
    assert len(other.requests) >= 1
    # Named by hosts alone, over http: a stranger on the way would read them.
    assert all(SECRET.encode() not in head for head in other.requests)
    assert SECRET.encode() not in files_of(work)
    assert SECRET not in config.model_dump_json()
    assert SECRET not in mask_secrets(f"it said {SECRET}-cookie")


def test_a_proxy_is_asked_for_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # of no consequence
    page = build_response(LONG)
    with open_raw_site({"http://docs.invalid/": page, "http://10.0.0.1/": page}) as proxy:
        config = crawl_config("http://docs.invalid/", proxy=proxy.url, allow_private=False)
        pages = scrape(config, Workdir.temporary(tmp_path / "one"))
        assert pages.stats["pages"] == 1
        assert set(proxy.targets) >= {"http://docs.invalid/robots.txt", "http://docs.invalid/"}
        proxy.requests.clear()
        config = crawl_config("http://10.0.0.1/", proxy=proxy.url, allow_private=False)
        with pytest.raises(DataError, match="leads to the private address"):
            scrape(config, Workdir.temporary(tmp_path / "two"))
        assert proxy.requests == []


def test_variables_of_the_environment_set_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    with open_raw_site({"/": build_response(LONG)}) as site:
        scrape(crawl_config(f"{site.url}/"), Workdir.temporary(tmp_path / "store"))
    assert all(b"uthorization" not in head for head in site.requests)
    assert "/" in site.targets


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"headers": {"Authorization": "Bearer abc"}}, "Authorization is a secret"),
        ({"headers": {"X-Api-Key": "abc"}}, "X-Api-Key is a secret"),
        ({"headers": {"X-A": "b\r\nHost: c"}}, "line break"),
        ({"headers": {"X A": "b"}}, "no name of a header"),
        ({"headers": {"Cookie": "a=b"}}, "set scrape.cookies"),
        ({"headers": {"host": "a"}}, "the crawl sets it itself"),
        ({"cookies": {"session": "abc"}}, "session is a secret"),
        ({"cookies": {"a;b": "${X}"}}, "no name of a cookie"),
        ({"proxy": "proxy.example:8080"}, "not the address of a proxy"),
        ({"proxy": "file:///etc/passwd"}, "not the address of a proxy"),
        ({"proxy": "http://me:hush@proxy.example"}, "a login is a secret"),
    ],
)
def test_what_cannot_be_sent_is_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as error:
        crawl_config("http://a.example/", **fields)
    assert "hush" not in str(error.value.errors()[0]["msg"])


def test_secrets_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = crawl_config("http://a.example/", cookies={"session": "${WIKI_SESSION}"})
    monkeypatch.delenv("WIKI_SESSION", raising=False)
    with pytest.raises(ConfigError, match=r"\$\{WIKI_SESSION\} is not set"):
        config.request_identity()
    monkeypatch.setenv("WIKI_SESSION", f"{SECRET}\r\nHost: x")
    with pytest.raises(ConfigError, match=r"scrape\.cookies\.session: .* control character") as e:
        config.request_identity()
    assert SECRET not in str(e.value)
    config = crawl_config("http://a.example/", ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"scrape\.ca_file: .*none\.pem: no such file"):
        config.request_identity()


@pytest.mark.parametrize(
    ("user_agent", "robots_agent", "token"),
    [
        ("modelmill", "", "modelmill"),
        ("acmebot/2.1 (+https://a.example)", "", "acmebot"),
        ("Mozilla/5.0 (compatible; acmebot/2.1)", "", "acmebot"),
        ("Mozilla/5.0 AppleWebKit/5 (KHTML, like Gecko; compatible; AcmeBot; +a)", "", "AcmeBot"),
        ("Mozilla/5.0 (X11; Linux)", "", "Mozilla"),
        ("Mozilla/5.0 (X11; Linux)", "acmebot", "acmebot"),
    ],
)
def test_name_in_robots_rules(user_agent: str, robots_agent: str, token: str) -> None:
    config = ScrapeConfig(user_agent=user_agent, robots_agent=robots_agent)
    assert config.agent_token == token


def test_a_robot_that_calls_itself_a_browser_obeys_its_own_rules(tmp_path: Path) -> None:
    rules = "User-agent: acmebot\nDisallow: /closed\n\nUser-agent: *\nDisallow:\n"
    home = build_response(f'<a href="/closed">x</a>{LONG}')
    with open_raw_site({"/robots.txt": build_response(rules), "/": home}) as site:
        agent = "Mozilla/5.0 (compatible; acmebot/2.1)"
        work = Workdir.temporary(tmp_path)
        rows = ledger(work, scrape(crawl_config(f"{site.url}/", user_agent=agent), work))
    assert rows["closed"]["reason"] == "robots.txt forbids it"
    assert "/closed" not in site.targets
