"""Sites that never end, and finite ones that look like them: each a function of the address."""

from __future__ import annotations

import datetime
import itertools
import random
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Site = Callable[[str], str | None]
"""Path and query of an address -> HTML of its page; None for a page that is not there."""
SYLLABLES = ("ba", "co", "di", "fu", "ge", "lo", "mi", "nu", "pe", "ra", "so", "ti", "vu", "wa")
START = datetime.date(2026, 5, 1)


def story(name: str, sentences: int = 6) -> str:
    """Text of its own under every name."""
    draw = random.Random(name)
    made = [
        " ".join("".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) for _ in range(9))
        for _ in range(sentences)
    ]
    return f"<p>{'. '.join(made)}.</p>"


def link(address: str, text: str = "x") -> str:
    return f'<a href="{address}">{text}</a>'


def serve(web: Any, site: Site) -> None:
    """Let a test's web answer as ``site`` does."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        page = site(handler.path)
        body = (page or "gone").encode()
        status = b"200 OK" if page is not None else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
        handler.wfile.write(head % (status, len(body)) + body)

    class AnyPage(dict[str, Any]):
        def get(self, path: str, default: Any = None) -> Any:
            return answer if not path.endswith((".txt", ".xml", ".json")) else default

    web.pages = AnyPage()


def parse(address: str) -> tuple[str, dict[str, str]]:
    """Path and parameters of an address."""
    parts = urlsplit(address)
    query = parse_qs(parts.query, keep_blank_values=True)
    return unquote(parts.path), {key: values[0] for key, values in query.items()}


def with_articles(site: Site, entry: str, count: int = 40) -> Site:
    """``site`` behind ``entry``, beside so many articles that its pages have nothing to do with."""

    def page(address: str) -> str | None:
        path, _ = parse(address)
        if address == "/":
            names = "".join(link(f"/article/{number}") for number in range(count))
            return story("home") + link(entry, "enter") + names
        if path.startswith("/article/"):
            return story(path) + link("/", "home")
        return site(address)

    return page


def month_grid(day: datetime.date, weeks: bool) -> str:
    first = day.replace(day=1) - datetime.timedelta(days=day.replace(day=1).weekday())
    rows = ""
    for week in range(6):
        days = [first + datetime.timedelta(days=7 * week + n) for n in range(7)]
        number = f"<th>{days[0].isocalendar().week}</th>" if weeks else ""
        rows += f"<tr>{number}{''.join(f'<td>{d.day}</td>' for d in days)}</tr>"
    return f"<table><tr><th>Mo Tu We Th Fr Sa Su</th></tr>{rows}</table><p>No events.</p>"


def add_months(day: datetime.date, months: int) -> datetime.date:
    index = day.year * 12 + day.month - 1 + months
    return datetime.date(index // 12, index % 12 + 1, 1)


def calendar_by_month(address: str) -> str | None:
    path, query = parse(address)
    if path != "/calendar" or not 1 <= int(query.get("year", "0")) < 9000:
        return None
    day = datetime.date(int(query["year"]), int(query["month"]), 1)
    following = add_months(day, 1)
    days = "".join(link(f"{address}&day={n}", str(n)) for n in range(1, 4))
    text = f"<h1>{day:%B %Y}</h1>{month_grid(day, weeks=False)}"
    return text + link(f"/calendar?year={following.year}&month={following.month}", "next") + days


def calendar_by_date(address: str) -> str | None:
    _, query = parse(address)
    day = datetime.datetime.strptime(query["date"], "%Y%m%d").date()
    around = "".join(link(f"/cal?date={add_months(day, n):%Y%m%d}") for n in (-1, 1))
    return f"<h1>{day:%B %Y}</h1>{month_grid(day, weeks=True)}{around}"


def calendar_by_offset(address: str) -> str | None:
    _, query = parse(address)
    offset = int(query["m"])
    around = link(f"/cal?m={offset + 1}", "next") + link(f"/cal?m={offset - 1}", "back")
    day = add_months(START, offset)
    return f"<h1>{day:%B %Y}</h1>{month_grid(day, weeks=False)}{around}"


def agenda_by_day(address: str) -> str | None:
    _, query = parse(address)
    day = START + datetime.timedelta(days=int(query["d"]))
    around = link(f"/day?d={int(query['d']) + 1}", "next") + link(f"/day?d={int(query['d']) - 1}")
    return f"<h1>{day:%A, %d %B %Y}</h1><p>Nothing is planned for this day.</p>{around}"


def token_links() -> Site:
    numbers = itertools.count()

    def page(address: str) -> str | None:
        links = "".join(link(f"/shop?token={next(numbers)}") for _ in range(5))
        return story("shop") + links

    return page


def visits(parameter: str, count: int, noise: bool = False) -> Site:
    """Pages of a graph whose every link carries a new session."""
    numbers = itertools.count(1000)

    def page(address: str) -> str | None:
        path = urlsplit(address).path.partition(";")[0]
        number = int(path.removeprefix("/page").strip("/") or "0")
        if number >= count:
            return None
        links = ""
        for step in (1, 2, 7, 13):
            session = f"{random.Random(next(numbers)).getrandbits(128):032x}"
            target = f"/page{(number * 3 + step) % count}"
            separator = ";" if parameter == "jsessionid" else "?"
            links += link(f"{target}{separator}{parameter}={session}")
        clock = next(numbers) * 7919
        footer = f"<p>Visitor {clock}, {clock % 89} ms, {clock % 97} users, {clock % 83} online</p>"
        return story(f"page{number}") + links + (footer if noise else "")

    return page


def circle_of_one(address: str) -> str | None:
    return story("circle") + link("a/", "deeper")


def circle_of_many(address: str) -> str | None:
    """Any prefix serves the page that the last folder names; links are relative by mistake."""
    names = [f"part{letter}" for letter in "abcdefghijkl"]
    last = address.strip("/").rpartition("/")[2]
    if last and last not in names:
        return None
    trail = " / ".join(address.strip("/").split("/"))
    return f"<p>Home {trail}</p>" + story(last) + "".join(link(f"{name}/", name) for name in names)


def search_by_facets(address: str) -> str | None:
    _, query = parse(address)
    draw = random.Random(7)
    values = {
        facet: [f"{facet}{letter}" for letter in "abcd"]
        for facet in ("colour", "size", "brand", "cloth", "sort")
    }
    products = [
        {facet: draw.choice(options) for facet, options in values.items()} for _ in range(60)
    ]
    chosen = {key: value for key, value in query.items() if key in values and key != "sort"}
    shown = [
        number
        for number, product in enumerate(products)
        if all(product[key] == value for key, value in chosen.items())
    ]
    draw = random.Random(query.get("sort", ""))
    draw.shuffle(shown)
    links = ""
    for facet, options in values.items():
        for option in options:
            asked = dict(sorted({**query, facet: option}.items()))
            links += link("/find?" + "&".join(f"{k}={v}" for k, v in asked.items()), option)
    listing = "".join(
        f"<li>{story(f'product{number}', 1)} 19.{number:02d}</li>" for number in shown[:20]
    )
    return f"<p>{len(shown)} products</p><ul>{listing}</ul>{links}"


def growing_query(address: str) -> str | None:
    return (
        story("list") + link(f"{address}?page={len(address)}", "next") if "?" in address else None
    )


def pages_past_the_end(address: str) -> str | None:
    _, query = parse(address)
    number = int(query["p"])
    items = story(f"list{number}") if number <= 9 else "<p>There are no more entries.</p>"
    return items + link(f"/list?p={number + 1}", "next")


def chain(kind: str, count: int, text: Callable[[int], str]) -> Site:
    """Pages of which each names the next one only."""

    def page(address: str) -> str | None:
        if address == "/":
            return story("home") + link(f"/{kind}/0", "first")
        number = int(address.rpartition("/")[2])
        following = link(f"/{kind}/{number + 1}", "next") if number + 1 < count else ""
        return text(number) + following if number < count else None

    return page


def yearly_table(number: int) -> str:
    draw = random.Random(number)
    rows = "".join(
        "<tr>" + "".join(f"<td>{draw.randint(100, 99999)}</td>" for _ in range(6)) + "</tr>"
        for _ in range(12)
    )
    return f"<h1>Harvest of {1900 + number}</h1><p>Tons per district.</p><table>{rows}</table>"


def league_round(number: int) -> str:
    draw = random.Random(number)
    teams = ["Ashford", "Bexley", "Corby", "Dover", "Epsom", "Frome", "Goole", "Hove"]
    draw.shuffle(teams)
    rows = "".join(
        f"<tr><td>{a}</td><td>{draw.randint(0, 4)}</td><td>{draw.randint(0, 4)}</td><td>{b}</td></tr>"
        for a, b in zip(teams[::2], teams[1::2], strict=True)
    )
    return f"<h1>Round {number}</h1><table>{rows}</table>"


def attendance(number: int) -> str:
    draw = random.Random(number)
    names = ("Ann", "Bob", "Cem", "Dora", "Eva", "Finn", "Gus", "Hal")
    rows = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{draw.randint(0, 1)}</td>' for _ in range(5))}</tr>"
        for name in names
    )
    return f"<h1>Attendance in week {number}</h1><table>{rows}</table>"


def weather_day(number: int) -> str:
    draw = random.Random(number)
    low, rain, wind, gust, sun = (draw.randint(-9, 40) for _ in range(5))
    return (
        f"<h1>Day {number}</h1><p>Low {low}, high {low + 6}, rain {rain} mm, wind {wind}, gusts "
        f"{gust}, sun {sun} h</p>"
    )


def dictionary_entry(number: int) -> str:
    navigation = story("navigation", 60)
    return f"{navigation}<p>{story(f'entry{number}', 1)}</p>"
