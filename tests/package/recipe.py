"""A Dockerfile's steps carried out in a folder, without Docker: files, commands and environment, but no isolation.

Understood is what this project's Dockerfile uses. Absolute paths of its own are moved below the folder.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

OWN = ("/venv", "/src", "/home/voicestack")
"""Paths that the steps make."""
SYSTEM = ("useradd",)
"""Commands that would change this machine: they are not run."""


@dataclass
class Image:
    """What is known after the last step."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    entrypoint: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def moved(self, text: str) -> str:
        """Return a text with the recipe's paths below the folder."""
        return re.sub(rf"(?<![\w./])({'|'.join(OWN)})(?=[/\s:]|$)", lambda match: f"{self.root}{match[1]}", text)

    def command(self, words: list[str]) -> list[str]:
        """Return a command whose program is the one that the image's PATH has."""
        program = shutil.which(words[0], path=self.environment["PATH"])
        assert program is not None, words
        return [program, *words[1:]]


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions with their arguments, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word
    ]


def allowed(context: Path, ignore: str) -> set[Path]:
    """Return the files of a context that a `.dockerignore` lets through; the last rule that fits wins."""
    rules = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    found = set()
    for top in context.iterdir():
        if _is_sent(top.name, rules):
            below = top.rglob("*") if top.is_dir() else [top]
            files = (path for path in below if path.is_file())
            found |= {path for path in files if _is_sent(path.relative_to(context).as_posix(), rules)}
    return found


def _is_sent(name: str, rules: list[str]) -> bool:
    """Return whether a path is sent: a rule fits it or a folder above it; `**/` fits at any depth."""
    parts = name.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!")
        anywhere = pattern.startswith("**/")
        fits = pattern.removeprefix("**/")
        if any(fnmatch.fnmatchcase(each, fits) for each in (parts if anywhere else above)):
            sent = rule.startswith("!")
    return sent


def build(dockerfile: Path, context: Path, root: Path) -> Image:
    """Carry out the steps; `subprocess.CalledProcessError` if one fails."""
    files = allowed(context, (context / ".dockerignore").read_text("utf-8"))
    image = Image(root)
    shell = dict(os.environ)
    shell.pop("PYTHONPATH", None)
    for word, rest in instructions(dockerfile.read_text("utf-8")):
        match word:
            case "FROM":
                image.folder, image.environment = Path("/"), {"PATH": os.environ["PATH"]}
            case "ARG":
                name, _, value = rest.partition("=")
                shell[name] = value
            case "WORKDIR":
                image.folder = Path(image.moved(rest))
                image.folder.mkdir(parents=True, exist_ok=True)
            case "ENV":
                for name, value in re.findall(r"(\w+)=(\S+)", rest):
                    image.environment[name] = image.moved(value).replace("$PATH", image.environment["PATH"])
            case "COPY" if not rest.startswith("--from"):
                *sources, target = rest.split()
                _copy(context, files, sources, image.folder / target, whole=target.endswith("/"))
            case "RUN" if not rest.startswith(SYSTEM):
                image.ran.append(rest)
                command = image.moved(rest).replace("python -m venv", f"{sys.executable} -m venv")
                given = shell | image.environment
                shell_command = ["/bin/sh", "-ec", command]
                subprocess.run(shell_command, cwd=image.folder, env=given, check=True, timeout=400)
            case "EXPOSE":
                image.exposed = rest.split()
            case "ENTRYPOINT":
                image.entrypoint = json.loads(rest)
            case "HEALTHCHECK":
                image.health = json.loads(rest.partition("CMD ")[2])
            case "COPY" | "RUN" | "USER":
                continue
            case _:
                raise ValueError(f"{word} is not understood")
    return image


def _copy(context: Path, files: set[Path], sources: list[str], target: Path, whole: bool) -> None:
    """Copy files and folders of the context that are let through."""
    for source in sources:
        origin = context / source
        found = [path for path in files if path == origin or origin in path.parents]
        assert found, f"COPY {source}: there is no such file in the context, or .dockerignore leaves it out"
        for path in found:
            inner = path.relative_to(origin) if path != origin else Path(origin.name)
            place = target / inner if whole or path != origin else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
