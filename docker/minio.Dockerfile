# MinIO as a user of its own: a new volume gets the owner of the folder that it is mounted on.
ARG BASE=debian:bookworm-slim
ARG MINIO=minio/minio:RELEASE.2025-09-07T16-13-09Z

FROM ${BASE} AS folders
RUN mkdir --parents /empty/data

FROM ${MINIO}
COPY --from=folders --chown=10001:10001 /empty/ /
USER 10001:10001
