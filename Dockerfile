# CPU or CUDA is a question of where torch comes from: see docker/README.md.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
# pip reads these as its environment; they end with this stage.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
WORKDIR /build
RUN python -m venv --without-pip /opt/dvt
# What the service needs changes seldom and is large: a layer of its own, which a change of the code does not touch.
COPY pyproject.toml ./
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], *project["optional-dependencies"]["redis"], sep="\n")' >requirements.txt \
    && python -m pip --python /opt/dvt/bin/python install --no-cache-dir --no-compile -r requirements.txt
COPY LICENSE README.md ./
COPY models models
COPY weights weights
COPY service service
RUN python -m pip --python /opt/dvt/bin/python install --no-cache-dir --no-compile --no-deps .
# Loads the model once. A read-only file system cannot keep bytecode later; compiling all of it would add much that
# never runs.
WORKDIR /
RUN /opt/dvt/bin/dvt info && /opt/dvt/bin/python -c 'import redis.asyncio, service.commands.serve, service.replica.front_end'

FROM ${BASE_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dynamic-vit-service" \
      org.opencontainers.image.description="A cascade of Vision Transformers served with real, batched early exit" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Nothing is installed from here on.
RUN rm -rf /usr/local/lib/python3*/site-packages/* /usr/local/bin/pip* /usr/local/bin/wheel \
        /usr/lib/python3/dist-packages/pip* /usr/bin/pip* \
    && groupadd --gid 10001 dvt \
    && useradd --uid 10001 --gid dvt --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin dvt \
    && install --directory --owner=dvt --group=dvt /var/lib/dvt
COPY --from=build /opt/dvt /opt/dvt
COPY docker/healthcheck.py /opt/dvt/healthcheck.py
ENV PATH=/opt/dvt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    XDG_STATE_HOME=/var/lib \
    DVT_HTTP_HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/dvt
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/dvt/healthcheck.py"]
ENTRYPOINT ["dvt"]
CMD ["serve"]
