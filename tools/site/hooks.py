"""What MkDocs does beyond its own for this site (`mkdocs.yml`).

- Pages of `docs/guides` and `docs/decisions` that the navigation does not name are put at the end of their part.
- `<!-- generated: NAME -->` in a page becomes what `tools/site/generated.py` makes of the code at this moment.
- A command in a line of text is never broken behind the dashes of an option, where a browser would.
- Diagrams are drawn in the browser by mermaid, from a file of this site and only on pages that have one.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[2]

_INLINE = re.compile(r"(<pre.*?</pre>)|<code>[^<]* [^<]*</code>", re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*(=[^\s<]+)?")
MERMAID = "assets/mermaid.min.js"
MERMAID_VERSION = "11.16.0"
MERMAID_SHA256 = "74d7c46dabca328c2294733910a8aa1ed0c37451776e8d5295da38a2b758fb9b"
"""Of `dist/mermaid.min.js` in npm's package `mermaid` of that version, a copy of which is in PyPI's `mermaidx`."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every page of two folders into the navigation."""
    docs = Path(config.docs_dir)
    for title, folder in (("Guides", "guides"), ("Decisions", "decisions")):
        part = next(part[title] for part in config.nav or [] if title in part)
        named = set(_named(part))
        pages = (path.relative_to(docs).as_posix() for path in sorted((docs / folder).glob("*.md")))
        part += [page for page in pages if page not in named]
    return config


def _named(entry: Any) -> list[str]:
    """Return the pages below an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [page for each in inner for page in _named(each)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add mermaid; the build stops if it is not the file that its makers published."""
    source = Path(importlib.import_module("mermaidx").__file__ or "").parent / "assets" / "mermaid.js"
    content = source.read_bytes()
    if hashlib.sha256(content).hexdigest() != MERMAID_SHA256:
        raise PluginError(f"{source} is not mermaid {MERMAID_VERSION} as npm has it")
    files.append(File.generated(config, MERMAID, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write what is generated."""
    if "<!-- generated:" not in markdown:
        return markdown
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    generated = importlib.import_module("tools.site.generated")
    return str(generated.fill(markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep the options of commands whole; blocks of code have no breaks of their own."""
    return _INLINE.sub(lambda found: found[1] or _OPTION.sub(r'<span class="option">\g<0></span>', found[0]), html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load mermaid before the theme looks for it, which would fetch it from elsewhere otherwise."""
    if 'class="mermaid"' not in output:
        return output
    script = f'<script src="{get_relative_url(MERMAID, page.url)}"></script>'
    place = output.rindex("<script src=")
    return f"{output[:place]}{script}{output[place:]}"
