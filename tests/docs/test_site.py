"""The documentation as a site: all pages are reachable, links lead somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import click
import pytest
from aiohttp import web

from interop.browsers import Browser, available, launch
from interop.web_page import on_loopback
from stack.cli import cli
from stack.sctp import SctpEvent
from stack.voice.events import ClientEvent, ProgramEvent, VoiceEvent
from tests.docs.conftest import BUILD, build

pytestmark = pytest.mark.xdist_group("site")

ROOT = Path(__file__).parents[2]
ORIGIN = "http://site.invalid/"
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'"
)
"""What the pages may load: their own server's files. The browser blocks and reports everything else."""


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in LOADED and LOADED[tag] in given and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Every page by its path."""
    found = {path.relative_to(site).as_posix(): Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(found) > 40
    return found


def is_ours(url: str) -> bool:
    return url.startswith(ORIGIN)


def targets(path: str, page: Page) -> Iterator[tuple[str, str]]:
    """Yield the path and the fragment of each link and file that is the site's own."""
    for link in (*page.links, *page.loaded):
        whole, fragment = urldefrag(urljoin(ORIGIN + path, link))
        if is_ours(whole):
            yield unquote(urlsplit(whole).path).lstrip("/") or "index.html", unquote(fragment)


@pytest.mark.parametrize("page", ["[there](nowhere.md)", "[there](#nowhere)"])
def test_a_broken_link_ends_the_build(tmp_path: Path, page: str) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(page)
    ours = (ROOT / "mkdocs.yml").read_text("utf-8")
    checks = ours[ours.index("validation:") : ours.index("\n\n", ours.index("validation:"))]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: small\ntheme: mkdocs\nplugins: []\n{checks}\n")
    done = build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode == 1, done.stderr
    assert "nowhere" in done.stderr


def test_make_builds_as_the_tests_do() -> None:
    recipes = (ROOT / "Makefile").read_text("utf-8").splitlines()
    assert [line for line in recipes if "mkdocs" in line] == [
        f"\t@NO_MKDOCS_2_WARNING=1 $(BIN)/python {' '.join(BUILD)}"
    ]


def test_the_first_page_of_the_guides_leads_to_each_of_them() -> None:
    guides = ROOT / "docs" / "guides"
    linked = set(re.findall(r"\]\(([a-z-]+\.md)\)", (guides / "index.md").read_text("utf-8")))
    assert {page.name for page in guides.glob("*.md")} - {"index.md"} == {
        name for name in linked if (guides / name).is_file()
    }


def test_every_link_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    broken = []
    for path, page in pages.items():
        if path == "404.html":
            continue  # its links are absolute, for a server that shows it anywhere
        for target, fragment in targets(path, page):
            if not (site / target).is_file():
                broken.append(f"{path}: {target}")
            elif (
                fragment
                and not fragment.startswith("__")
                and target in pages
                and fragment not in pages[target].places
            ):
                broken.append(f"{path}: {target}#{fragment}")
    assert broken == []


def test_every_page_is_reachable_from_the_first(pages: dict[str, Page]) -> None:
    reached, new = set(), {"index.html"}
    while new:
        reached |= new
        new = {target for path in new for target, _ in targets(path, pages[path]) if target in pages} - reached
    assert set(pages) - reached == {"404.html"}


def test_no_page_loads_anything_from_elsewhere(pages: dict[str, Page]) -> None:
    foreign = [
        f"{path}: {link}"
        for path, page in pages.items()
        for link in page.loaded
        if not is_ours(urljoin(ORIGIN + path, link)) and not link.startswith("data:")
    ]
    assert foreign == []


def test_no_style_sheet_loads_anything_from_elsewhere(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    foreign = [
        f"{sheet.name}: {url}"
        for sheet in sheets
        for url in re.findall(r"(?:url\(|@import\s)[\"']?(https?:[^\"')]+|//[^\"')]+)", sheet.read_text("utf-8"))
    ]
    assert foreign == []


def test_no_line_ends_behind_the_dashes_of_an_option(site: Path) -> None:
    text = (site / "start" / "claims.html").read_text("utf-8")
    assert 'bench setup <span class="option">--rtt</span> 100 <span class="option">--loss</span> 10' in text
    inline = re.findall(r"<code>(?:[^<]|<span[^>]*>|</span>)*</code>", re.sub(r"(?s)<pre.*?</pre>", "", text))
    assert [each for each in inline if re.search(r"[^>\w-]--[a-z]", each)] == []


def test_the_command_line_is_whole(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text("utf-8")
    for name, command in cli.commands.items():
        assert f'id="{name}"' in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"<code>{parameter.opts[0]}</code>" in text


def test_the_environment_is_whole(site: Path) -> None:
    """Every variable of an option, and every other one that the code reads."""
    text = (site / "reference" / "environment.html").read_text("utf-8")
    shown = set(re.findall(r"\b(?:VOICE_STACK|OPENAI)_[A-Z_]+\b", text))
    options = {
        parameter.envvar
        for parameter in cli.commands["serve"].params
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str)
    }
    read = set()
    for path in (ROOT / "stack").rglob("*.py"):
        source = path.read_text("utf-8")
        if "environ" in source:
            read |= set(re.findall(r"\b(?:VOICE_STACK|OPENAI)_[A-Z]+(?:_[A-Z]+)*\b(?!_)", source))
    assert shown == options | read


def test_every_event_has_its_place(site: Path) -> None:
    text = (site / "reference" / "events.html").read_text("utf-8")
    inner = {"UtterancePiece", "TurnPaused", "UtteranceDiscarded", "BufferedAmountLow"}  # not told to programs
    for union in (VoiceEvent, ProgramEvent, ClientEvent, SctpEvent):
        for event in union.__args__:
            if event.__name__ not in inner:
                assert f'id="{event.__module__}.{event.__name__}"' in text or f".{event.__name__}" in text, event


def test_a_page_is_in_the_navigation_by_being_there(tmp_path: Path) -> None:
    hooks = pytest.importorskip("tools.site.hooks", reason="the docs extra is not installed")
    for name in ("guides/b.md", "guides/a.md", "guides/named.md", "decisions/0001-x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    guides: list[object] = ["guides/named.md", {"Elsewhere": ["other.md"]}]
    config = SimpleNamespace(docs_dir=str(tmp_path), nav=[{"Guides": guides}, {"Decisions": []}])
    assert hooks.on_config(config).nav == [
        {"Guides": ["guides/named.md", {"Elsewhere": ["other.md"]}, "guides/a.md", "guides/b.md"]},
        {"Decisions": ["decisions/0001-x.md"]},
    ]


def test_a_mermaid_that_is_not_its_makers_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = pytest.importorskip("tools.site.hooks", reason="the docs extra is not installed")
    monkeypatch.setattr(hooks, "MERMAID_SHA256", "00" * 32)
    with pytest.raises(hooks.PluginError, match="is not mermaid"):
        hooks.on_files([], None)


# -- in a browser ------------------------------------------------------------------------------------------------

OPENED = (
    "index.html",
    "guides/turns.html",
    "guides/public.html",
    "learn/index.html",
    "learn/3-keys.html",
    "reference/api.html",
    "state-diagrams.html",
    "session.html",
)
DIAGRAMS = {"session.html": 1, "learn/index.html": 1, "state-diagrams.html": 9}
LOADED_FROM = "performance.getEntriesByType('resource').map(entry => entry.name)"
DRAWN = (
    "[...document.querySelectorAll('.mermaid')].every(each => each.tagName === 'DIV' && each.offsetHeight > 60)"
)
BROKEN_NAMES = r"""[...document.querySelectorAll('td code')].filter(
  each => /^\w+$/.test(each.textContent) && each.getClientRects().length > 1).map(each => each.textContent)"""
TABLE_SCROLLBARS = """[...document.querySelectorAll('.md-typeset__scrollwrap')].map(
  each => getComputedStyle(each).scrollbarWidth)"""
SEARCH = """(async () => {
  document.querySelector('[data-md-toggle=search]').click();
  const field = document.querySelector('[data-md-component=search-query]');
  field.focus();
  field.value = 'barge-in';
  field.dispatchEvent(new Event('keyup', { bubbles: true }));
  field.dispatchEvent(new Event('input', { bubbles: true }));
  return true;
})()"""
FOUND = "document.querySelectorAll('.md-search-result__item a').length"


@asynccontextmanager
async def served(site: Path) -> AsyncIterator[str]:
    """The site on a server of its own, which lets pages load nothing from elsewhere."""

    async def forbid(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Security-Policy"] = POLICY

    app = web.Application()
    app.on_response_prepare.append(forbid)
    app.router.add_static("/", site)
    async with on_loopback(app) as url:
        yield url


def complaints(browser: Browser) -> list[str]:
    """What the browser and the page's own scripts complained of."""
    return [*browser.errors, *(line.text for line in browser.console if line.level == "error")]


@pytest.mark.browser
async def test_pages_open_without_a_request_to_another_origin(site: Path) -> None:
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("chromium is not installed here: the site was opened in no browser")
    async with served(site) as url, launch("chromium") as browser:
        for path in OPENED:
            await browser.goto(url + path)
            assert await browser.evaluate("document.title") != ""
            await browser.wait_for(DRAWN)
            if path in DIAGRAMS:
                assert await browser.evaluate("document.querySelectorAll('.mermaid').length") == DIAGRAMS[path]
            loaded = await browser.evaluate(LOADED_FROM)
            assert [each for each in loaded if not each.startswith((url, "data:", "blob:"))] == []
            assert complaints(browser) == [], path
        assert await browser.evaluate(SEARCH)
        assert await browser.wait_for(FOUND) > 0
        assert complaints(browser) == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["chromium", "firefox"])
async def test_no_page_is_wider_than_a_phone(site: Path, name: str) -> None:
    """Tables and programs are scrolled by themselves, and a name in a table is not broken."""
    if name not in {browser.name for browser in available()}:
        pytest.skip(f"{name} is not installed here: the site was not opened in it")
    async with served(site) as url, launch(name, viewport=(360, 740)) as browser:
        for path in OPENED:
            await browser.goto(url + path)
            await browser.wait_for(DRAWN)
            wide = await browser.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, f"{path} is {wide} pixels wider than its window"
            assert await browser.evaluate(BROKEN_NAMES) == [], path
            assert set(await browser.evaluate(TABLE_SCROLLBARS)) <= {"thin"}, path


@pytest.mark.browser
async def test_it_can_be_read_and_searched_from_the_disk(site: Path) -> None:
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("chromium is not installed here: the site was opened in no browser")
    async with launch("chromium") as browser:
        for path in ("session.html", "index.html"):
            await browser.goto((site / path).as_uri())
            await browser.wait_for(DRAWN)
            assert [each for each in await browser.evaluate(LOADED_FROM) if not each.startswith("file:")] == []
        assert await browser.evaluate(SEARCH)
        assert await browser.wait_for(FOUND) > 0
        assert complaints(browser) == []


@pytest.mark.browser
async def test_a_request_to_another_origin_would_be_found(site: Path, tmp_path: Path) -> None:
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("chromium is not installed here: the site was opened in no browser")
    (tmp_path / "index.html").write_text('<script src="http://other.invalid/mermaid.js"></script>', "utf-8")
    async with served(tmp_path) as url, launch("chromium") as browser:
        await browser.goto(url + "index.html")
        await browser.wait_for("true")
        assert any("other.invalid" in text for text in complaints(browser)), json.dumps(complaints(browser))
