# The server as an image:
#   docker build -t voice-stack .                            extras: --build-arg EXTRAS=demo (or demo,otel)
#   docker run --network host voice-stack --agent echo
#
# A program of your own is two lines on top of it, in a Dockerfile beside agent.py:
#   FROM voice-stack
#   COPY agent.py .
# and, in the environment or as an argument: VOICE_STACK_AGENT=agent:answer
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG EXTRAS=
WORKDIR /src
RUN python -m venv /venv
# What is needed before the code: with other code and the same setup.cfg this step is taken from the cache.
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY stack/__init__.py stack/
RUN /venv/bin/pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"
COPY stack stack
RUN /venv/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:${PYTHON}-slim
# (Not `voice`: Debian has a group of that name, and useradd would make another.)
RUN useradd --system --uid 10001 --create-home voicestack
COPY --from=build /venv /venv
USER 10001
WORKDIR /home/voicestack/app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    VOICE_STACK_HOST=0.0.0.0 VOICE_STACK_PORT=8080 VOICE_STACK_UDP_PORT=3478 VOICE_STACK_DRAIN_SECONDS=20
EXPOSE 8080/tcp 3478/udp 3478/tcp
# Over HTTPS where VOICE_STACK_TLS_CERT is set, at the port and path of the environment. (Options after the image's name are not
# seen by it: set in the environment what it has to know.)
HEALTHCHECK --interval=10s --timeout=4s --start-period=15s CMD ["python", "-m", "stack", "health"]
# Exec form, so that SIGTERM reaches the server and it drains.
ENTRYPOINT ["python", "-m", "stack", "serve"]
