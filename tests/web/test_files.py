"""The page's files: complete, and without anything from elsewhere."""

from __future__ import annotations

import re

import pytest

from stack.web import assets, directory

FILES = {entry.name: entry.read_text() for entry in directory().iterdir() if not entry.name.startswith("__")}
MODULES = sorted(name for name in FILES if name.endswith(".js"))


def test_every_file_is_of_a_kind_that_the_package_ships() -> None:
    assert {name.rpartition(".")[2] for name in FILES} == {"html", "css", "js", "svg"}


def test_assets_are_the_page_and_nothing_beside_it() -> None:
    found = assets()
    assert set(found) == set(FILES)
    assert found["app.js"].media_type.startswith("text/javascript")
    assert found["index.html"].data.startswith(b"<!doctype html>")


def test_what_the_html_refers_to_is_there() -> None:
    references = re.findall(r'(?:src|href)="([^"]+)"', FILES["index.html"])
    assert references
    for reference in references:
        folder, _, name = reference.rpartition("/")
        assert folder == "static", f"{reference} would not be served, or not from a page below another path"
        assert name in FILES


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_imports_is_there(name: str) -> None:
    for imports, source in re.findall(r'import \{([^}]*)\} from "\./([^"]+)"', FILES[name]):
        for imported in filter(None, (word.strip() for word in imports.split(","))):
            exported = rf"export (async )?(function|class|const) {imported}\b"
            assert re.search(exported, FILES[source]), f"{source} does not export {imported}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = FILES[name].replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"(https?:)?//[\w-]+\.[\w.-]+", text)
    assert "url(" not in text


def test_every_element_that_the_modules_ask_for_is_in_the_html() -> None:
    html = FILES["index.html"]
    for module in MODULES:
        for identifier in re.findall(r'(?:\$|getElementById)\("([^"]+)"\)', FILES[module]):
            assert f'id="{identifier}"' in html, f"{module} asks for #{identifier}"


def test_every_kind_of_microphone_trouble_has_its_words() -> None:
    problems = FILES["problems.js"]
    for error in (
        "NotAllowedError",
        "NotFoundError",
        "NotReadableError",
        "OverconstrainedError",
        "SecurityError",
        "AbortError",
    ):
        assert error in problems
