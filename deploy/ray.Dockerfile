# Dragoman on Ray's own image, for KubeRay: docker build -f deploy/ray.Dockerfile -t dragoman-ray .
FROM rayproject/ray:2.60.0-py312
COPY --chown=ray . /tmp/source
# The kernels are compiled into the wheel; the image's releases of Ray and its needs stay as they are.
RUN sudo apt-get update && sudo apt-get install -y --no-install-recommends gcc libc6-dev \
    && pip install --no-cache-dir '/tmp/source[cluster]' \
    && sudo apt-get purge -y gcc && sudo rm -rf /var/lib/apt/lists/* /tmp/source
ARG MODEL=
ENV HF_HOME=/home/ray/models
RUN if [ -n "$MODEL" ]; then dragoman models pull "$MODEL"; fi
ENV HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0
