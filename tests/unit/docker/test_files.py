"""The files of docker/: what they promise of users, ports, health checks, versions and names."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fmbseg.project_files import PACKED
from tests.conftest import REPOSITORY
from tests.support.compose_file import FOLDER, SECRETS, compose

DOCKERFILE = (FOLDER / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = compose(SECRETS)["services"]
service = pytest.mark.parametrize("name", sorted(SERVICES))


def stages(text: str) -> dict[str, list[str]]:
    """Stage to its instructions, lines that go on joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    stage = ""
    for line in filter(None, map(str.strip, joined.splitlines())):
        if line.startswith("FROM "):
            stage = line.split(" AS ")[-1]
        found.setdefault(stage, []).append(line)
    return found


@service
def test_a_service_runs_without_root_and_without_privileges(name: str):
    one = SERVICES[name]
    assert str(one["user"]) in ("10001:10001", "postgres")
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in one


@service
def test_a_published_port_is_on_loopback(name: str):
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@service
def test_a_service_has_a_health_check_or_ends_by_itself(name: str):
    one = SERVICES[name]
    if one["restart"] == "no":
        assert one["healthcheck"] == {"disable": True}
    else:
        assert one["healthcheck"]["test"][0] == "CMD"


@service
def test_a_service_waits_for_what_it_needs_and_no_service_is_forgotten(name: str):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        ends = SERVICES[other]["restart"] == "no"
        wanted = "service_completed_successfully" if ends else "service_healthy"
        assert how == {"condition": wanted}
    for other in SERVICES:
        if re.search(rf"(//|@){other}:\d", str(SERVICES[name].get("environment", ""))):
            assert other in SERVICES[name]["depends_on"] or other == "minio"


@service
def test_what_a_service_mounts_is_there_or_is_a_volume(name: str):
    volumes = compose(SECRETS)["volumes"]
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        if source in volumes:
            continue
        assert source.startswith((".", "../data/drops", "../models/train"))
        if not source.startswith("../models"):
            assert (FOLDER / source).exists()


def test_secrets_come_from_the_environment_and_none_has_a_value_in_the_example():
    with pytest.raises(KeyError, match=r"docker/env\.example"):
        compose({})
    lines = (FOLDER / "env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert set(SECRETS) <= set(given)
    assert not any(value for name, value in given.items() if name.endswith("PASSWORD"))
    assert "docker/.env" in (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "docker/.env" in (REPOSITORY / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize("stage", ["runtime", "pipeline"])
def test_an_image_ends_as_a_user_and_says_how_its_health_is_asked(stage: str):
    lines = stages(DOCKERFILE)[stage]
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert any(line.startswith("ENTRYPOINT") for line in lines)


def test_what_is_copied_exists_and_is_not_ignored():
    allowed = (REPOSITORY / ".dockerignore").read_text().splitlines()
    copied = [
        word
        for lines in stages(DOCKERFILE).values()
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert "." in copied
    for name in set(copied) - {"."}:
        assert (REPOSITORY / name).is_file()
        assert any(f"!{part}" in allowed for part in (name, *map(str, Path(name).parents)))


def test_the_wheel_of_the_image_finds_all_that_it_is_made_of():
    allowed = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for name in (*PACKED, "fmbseg", "pyproject.toml", "README.md", "LICENSE"):
        assert f"!{name}" in allowed


def test_versions_are_those_of_the_lock_file():
    locked = dict(
        line.split(" ")[0].split("==")
        for line in (REPOSITORY / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    assert f"ARG TORCH={locked['torch']}\n" in DOCKERFILE
    assert f"ARG TORCHVISION={locked['torchvision']}\n" in DOCKERFILE
    pinned = re.findall(r"^([\w-]+)==", (FOLDER / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned == ["psycopg2-binary"]
    assert not set(pinned) & set(locked)


def test_the_image_has_drivers_for_the_addresses_of_the_compose_file():
    extras = re.findall(r"\[([\w,]+)\]", DOCKERFILE)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    drivers = " ".join(project["optional-dependencies"]["postgres"])
    for driver, package in (("asyncpg", "asyncpg"), ("psycopg2", "psycopg2-binary")):
        assert f"postgresql+{driver}://" in (FOLDER / "compose.yaml").read_text()
        assert package in drivers
    assert {"pipeline", "postgres", "s3", "onnx"} <= set(extras[-1].split(","))


def test_no_registry_is_named():
    for file in FOLDER.iterdir():
        for image in re.findall(r"(?:^FROM |image: |ARG (?:BASE|MINIO)=)(\S+)", file.read_text(),
                                re.MULTILINE):  # fmt: skip
            assert not re.match(r"[\w-]+\.[\w.-]+/", image)


@pytest.mark.parametrize("script", ["worker.sh", "databases.sh"])
def test_a_script_is_sound(script: str):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    checked = subprocess.run(
        ["shellcheck", str(FOLDER / script)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
