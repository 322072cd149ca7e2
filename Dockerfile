# One image for all services: `python -m NAME` says which.
FROM python:3.11.14-slim-bookworm AS wheels

WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY gen gen
COPY bench bench
COPY chassis chassis
COPY cli cli
COPY contract contract
COPY deploy deploy
COPY gateway gateway
COPY ops ops
COPY payments payments
COPY provider provider
COPY reservations reservations
COPY scheduler scheduler
RUN pip wheel --no-cache-dir --constraint constraints.txt --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/*.whl \
    && useradd --system --user-group --uid 10001 --create-home ticketrush \
    && install --directory --owner=ticketrush --group=ticketrush /var/lib/ticketrush
USER 10001:10001
WORKDIR /home/ticketrush
STOPSIGNAL SIGTERM
CMD ["python", "-m", "gateway"]
