"""The demo page: plain HTML, CSS and JavaScript modules, no build step, nothing loaded from elsewhere.

`index.html` is served at `/`, everything else here under `/static/`. The page posts its offer to `api/offer` at
once, without waiting for candidates: the server learns the browser's address from the first check.

`app.js` puts the parts together: `call.js` (the call as a state machine), `arrivals.js` (whether anything
comes), `problems.js` (what went wrong, in plain words), `levels.js`, `lanes.js`, `quality.js`, `plot.js`,
`steps.js`, `events.js` (what the program reports on the data channel) and `settings.js`. `window.voiceStack`
shows the state of all of it to tests.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

__all__ = ["Asset", "assets", "directory"]

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""Said here because a system's own table may be wrong, and a browser runs no module that is called plain text."""


class Asset(NamedTuple):
    """One file of the page."""

    media_type: str
    data: bytes


def directory() -> Traversable:
    """Where the page's files are: a directory, unless the package is imported from an archive."""
    return files(__name__)


def assets() -> dict[str, Asset]:
    """The page's files by name, and nothing else that lies beside them."""
    found = {}
    for entry in directory().iterdir():
        media_type = MEDIA_TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            found[entry.name] = Asset(media_type, entry.read_bytes())
    return found
