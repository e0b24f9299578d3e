"""The commands of docker/compose.yaml, on loopback: Postgres, an S3 store, Prefect, MLflow, worker.

Each service's command, variables and health check are those of the file; names and ports of
containers are put in the place of this machine's. Postgres is a real server, the S3 store is moto.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fmbseg.params_edit import write_params
from tests.conftest import SMALL
from tests.support.checkouts import environment
from tests.support.compose_file import FOLDER, SECRETS, Here, compose
from tests.support.local_postgres import free_port, postgres_programs, postgres_server

psycopg2 = pytest.importorskip("psycopg2", reason="needs fmbseg[postgres]")
boto3 = pytest.importorskip("boto3", reason="needs fmbseg[s3]")
pytest.importorskip("dvc_s3", reason="needs fmbseg[s3]")
pytest.importorskip("moto.server", reason="needs fmbseg[dev]")
PROGRAMS = postgres_programs()
pytestmark = [
    pytest.mark.e2e, pytest.mark.slow, pytest.mark.weights,
    pytest.mark.skipif(PROGRAMS is None or shutil.which("psql") is None, reason="needs Postgres"),
]  # fmt: skip
SERVICES: dict[str, dict[str, Any]] = compose(SECRETS)["services"]


@contextlib.contextmanager
def started(command: list[str], log: Path, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, stopped at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, start_new_session=True, **how
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def until(check: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while not check():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() - began < 240, log.read_text()[-3000:]
        time.sleep(0.5)


def passes(command: list[str], variables: Mapping[str, str]) -> bool:
    return subprocess.run(command, env=variables, capture_output=True, check=False).returncode == 0


def test_a_worker_of_the_compose_file_runs_the_flow_and_all_of_it_is_kept(tmp_path: Path) -> None:
    assert PROGRAMS is not None
    ports = {"4200": free_port(), "5000": free_port(), "9000": free_port()}
    project, drops = tmp_path / "project", tmp_path / "drops"
    project.mkdir()
    drops.mkdir()
    with contextlib.ExitStack() as running:
        postgres = running.enter_context(postgres_server(PROGRAMS))
        places = {
            "postgres:5432": f"127.0.0.1:{postgres.port}",
            "/opt/fmbseg": str(FOLDER), "/project": str(project), "/drops": str(drops),
            "/home/fmbseg": str(tmp_path / "home"),
        }  # fmt: skip
        for name, inside in (("minio", "9000"), ("prefect", "4200"), ("mlflow", "5000"),
                             ("127.0.0.1", "4200"), ("127.0.0.1", "5000"),
                             ("localhost", "5000")):  # fmt: skip
            places[f"{name}:{inside}"] = f"127.0.0.1:{ports[inside]}"
        here = Here(places, ports)
        base = environment(project, tmp_path / "outside")

        def variables(name: str) -> dict[str, str]:
            return {**base, **here.environment(SERVICES[name]), "HOME": str(tmp_path / "home")}

        def service(name: str) -> tuple[subprocess.Popen[bytes], Path]:
            log = tmp_path / f"{name}.log"
            command = here.command(SERVICES[name])
            process = running.enter_context(
                started(command, log, env=variables(name), cwd=tmp_path)
            )
            asked = here.health(SERVICES[name])
            until(lambda: passes(asked, variables(name)), process, log)
            return process, log

        for folder in ("home", "outside/prefect"):
            (tmp_path / folder).mkdir(parents=True)
        ready = [str(PROGRAMS / "pg_isready"), "-h", "127.0.0.1", "-p", str(postgres.port)]
        began = time.monotonic()
        while not passes(ready, os.environ):
            assert time.monotonic() - began < 60
            time.sleep(0.2)
        secrets = {**os.environ, **SERVICES["postgres"]["environment"],
                   "PGHOST": str(postgres.sockets), "PGPORT": str(postgres.port)}  # fmt: skip
        subprocess.run(["sh", str(FOLDER / "databases.sh")], env=secrets, check=True)
        store = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(ports["9000"])]
        moto = running.enter_context(started(store, tmp_path / "moto.log"))
        s3 = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{ports['9000']}", region_name="us-east-1",
            aws_access_key_id="x", aws_secret_access_key="y",
        )  # fmt: skip
        until(lambda: _answers(s3), moto, tmp_path / "moto.log")
        for _ in range(2):  # a second start finds the buckets
            made = here.command(SERVICES["buckets"])
            subprocess.run(made, env=variables("buckets"), check=True)

        for name in ("prefect", "mlflow"):
            service(name)
        _, log = service("worker")
        write_params(project / "params.yaml", _flat(SMALL))
        ran = subprocess.run(
            [sys.executable, "-m", "prefect", "deployment", "run", "fmbseg/full", "--watch"],
            env=variables("worker"), cwd=project, capture_output=True, text=True, check=False,
            timeout=500,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + log.read_text()[-4000:]
        assert passes(here.health(SERVICES["worker"]), variables("worker"))

        prefect = _rows(postgres.port, "prefect", "two", "select state_type::text from flow_run")
        assert ("COMPLETED",) in prefect
        kept = _rows(postgres.port, "mlflow", "three", "select count(*) from metrics")
        assert kept[0][0] > 0
        models = _rows(postgres.port, "mlflow", "three", "select name from registered_models")
        assert models == [("fmbseg-miniature",)]
        assert s3.list_objects_v2(Bucket="mlflow")["KeyCount"] > 0
        pushed = subprocess.run(
            [sys.executable, "-m", "dvc", "push"], env=variables("worker"), cwd=project,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert pushed.returncode == 0, pushed.stderr
        assert s3.list_objects_v2(Bucket="dvc")["KeyCount"] > 0
        assert json.loads((project / "reports" / "report" / "metrics.json").read_text())


def _answers(s3: Any) -> bool:
    try:
        s3.list_buckets()
    except Exception:
        return False
    return True


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{name}.{key}": value for name, one in sections.items() for key, value in one.items()}


def _rows(port: int, user: str, password: str, query: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(
        host="127.0.0.1", port=port, user=user, password=password, dbname=user
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())
    finally:
        connection.close()
