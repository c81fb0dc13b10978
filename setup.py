"""What `setup.cfg` cannot say: the README and the links with whole addresses, for a page on another site."""

import configparser
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "stack/__init__.py").read_text("utf-8"), re.MULTILINE)[1]
_config = configparser.ConfigParser()
_config.read(ROOT / "setup.cfg", "utf-8")
HOME = _config["metadata"]["url"]
"""The only place where the address of the repository stands."""


def absolute(text: str) -> str:
    """Return Markdown whose links into this repository lead to the files of this version."""

    def link(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{label}]({HOME}/{kind}/v{VERSION}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)", link, text)


setup(
    long_description=absolute((ROOT / "README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
    project_urls={
        "Documentation": f"{HOME}/blob/v{VERSION}/docs/index.md",
        "Source": HOME,
        "Changelog": f"{HOME}/blob/v{VERSION}/CHANGELOG.md",
        "Issues": f"{HOME}/issues",
    },
)
