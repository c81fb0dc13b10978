"""The demo page: plain HTML, CSS and JavaScript modules, no build step, nothing loaded from elsewhere.

`index.html` is served at `/`, everything else here under `/static/`. The page posts its offer to `api/offer` at
once, without waiting for candidates: the server learns the browser's address from the first check.

`app.js` puts the parts together: `call.js` (the call as a state machine), `problems.js` (what went wrong, in plain
words), `levels.js`, `lanes.js`, `quality.js`, `plot.js`, `steps.js`, `events.js` (what the program reports on the
data channel) and `settings.js`. `window.voiceStack` shows the state of all of it to tests.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

__all__ = ["directory"]


def directory() -> Traversable:
    """Where the page's files are: a directory, unless the package is imported from an archive."""
    return files(__name__)
