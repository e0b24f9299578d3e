#!/bin/sh
# Roles and databases of Prefect and MLflow; the Postgres image runs it once, on an empty volume.
set -eu
psql --set=ON_ERROR_STOP=1 --username "${POSTGRES_USER}" --dbname "${POSTGRES_DB:-postgres}" \
  --set=prefect="${PREFECT_DB_PASSWORD}" --set=mlflow="${MLFLOW_DB_PASSWORD}" <<'SQL'
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE DATABASE prefect OWNER prefect;
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
SQL
