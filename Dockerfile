# The server as an image: docker build -t voice-stack . && docker run --network host voice-stack
FROM python:3.12-slim AS build
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY stack ./stack
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir .

FROM python:3.12-slim
RUN useradd --system --create-home voice
COPY --from=build /venv /venv
USER voice
WORKDIR /home/voice
ENV VOICE_STACK_HOST=0.0.0.0 VOICE_STACK_PORT=8080 VOICE_STACK_UDP_PORT=3478 VOICE_STACK_DRAIN_SECONDS=20
EXPOSE 8080/tcp 3478/udp
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/venv/bin/python", "-c", \
  "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['VOICE_STACK_PORT'] + '/healthz', timeout=2)"]
# Exec form, so that SIGTERM reaches the server and it drains.
ENTRYPOINT ["/venv/bin/python", "-m", "stack", "serve"]
