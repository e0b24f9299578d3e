"""docker/compose.yaml as Compose reads it, and its services as commands of this machine."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "docker"
SECRETS = {
    "POSTGRES_PASSWORD": "one", "PREFECT_DB_PASSWORD": "two", "MLFLOW_DB_PASSWORD": "three",
    "MINIO_ROOT_USER": "fmbseg", "MINIO_ROOT_PASSWORD": "four-four",
}  # fmt: skip
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def compose(values: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in; a required one that is missing is an error."""

    def filled(found: re.Match[str]) -> str:
        name, how, rest = found.groups()
        if values.get(name):
            return values[name]
        if how == "?":
            raise KeyError(f"{name}: {rest}")
        return rest or ""

    text = (FOLDER / "compose.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return dict(yaml.safe_load(_VARIABLE.sub(filled, "\n".join(lines))))


@dataclass(frozen=True)
class Here:
    """Where on this machine a service's names and places are.

    Attributes:
        places: text of compose.yaml to what stands for it here, such as "mlflow:5000" to
            "127.0.0.1:39211".
        ports: port inside a container to port here.
    """

    places: Mapping[str, str]
    ports: Mapping[str, int]

    def command(self, service: Mapping[str, Any]) -> list[str]:
        """Its command, in this environment and on loopback."""
        return self._here(service["command"])

    def health(self, service: Mapping[str, Any]) -> list[str]:
        """The command of its health check."""
        first, *rest = service["healthcheck"]["test"]
        assert first == "CMD"
        return self._here(rest)

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Its variables, beside those of this process."""
        own = {name: self._text(str(value)) for name, value in service["environment"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, **own}

    def _here(self, words: list[str]) -> list[str]:
        named = {"python": sys.executable, "0.0.0.0": "127.0.0.1"}
        named |= {inside: str(port) for inside, port in self.ports.items()}
        return [named.get(word, self._text(word)) for word in words]

    def _text(self, text: str) -> str:
        for said, here in self.places.items():
            text = text.replace(said, here)
        return text
