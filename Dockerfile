# Two images: that of the HTTP front, which is one compiled program, and one for all services: `python -m NAME` says which.
FROM golang:1.26.8-bookworm AS program

WORKDIR /src/frontend
COPY gen/go.mod gen/go.sum ../gen/
COPY frontend/go.mod frontend/go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY gen/ ../gen/
COPY frontend/ ./
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -o /frontend .

FROM scratch AS frontend

COPY --from=program /frontend /frontend
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["/frontend"]

FROM python:3.11.14-slim-bookworm AS wheels

WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY gen gen
COPY bench bench
COPY chaos chaos
COPY chassis chassis
COPY cli cli
COPY contract contract
COPY deploy deploy
COPY gateway gateway
COPY loadgen loadgen
COPY ops ops
COPY payments payments
COPY provider provider
COPY reservations reservations
COPY scheduler scheduler
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --constraint constraints.txt --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The official image comes without .pyc files: every start, also that of each health check, would compile what it imports.
RUN python -m compileall -q /usr/local/lib
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/*.whl \
    && useradd --system --user-group --uid 10001 --create-home ticketrush \
    && install --directory --owner=ticketrush --group=ticketrush /var/lib/ticketrush /var/lib/ticketrush-tls \
        /var/lib/ticketrush-tls/provider /var/lib/ticketrush-tls/reservations /var/lib/ticketrush-tls/payments \
        /var/lib/ticketrush-tls/scheduler /var/lib/ticketrush-tls/gateway
USER 10001:10001
WORKDIR /home/ticketrush
STOPSIGNAL SIGTERM
CMD ["python", "-m", "gateway"]
