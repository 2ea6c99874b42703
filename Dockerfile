# Two stages: the first builds a virtual environment, the second has nothing but it, Git and SSH.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/pg-reconciler
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY tools ./tools
COPY reconciler ./reconciler
RUN "$(python3 tools/bootstrap.py)" sync --frozen --no-dev --no-editable --extra embedded --python "$(command -v python3)"

FROM ${PYTHON_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends git openssh-client ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/reconciler reconciler
COPY --from=build /opt/pg-reconciler /opt/pg-reconciler
ENV PATH=/opt/pg-reconciler/bin:$PATH \
    RECONCILER_STATE_DIR=/var/lib/reconciler \
    RECONCILER_LISTEN=127.0.0.1:8080
USER 10001
VOLUME /var/lib/reconciler
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import os,urllib.request as u; a=os.environ['RECONCILER_LISTEN'].rpartition(':')[2]; u.urlopen(f'http://127.0.0.1:{a}/livez', timeout=4)"]
ENTRYPOINT ["reconciler"]
CMD ["run"]
