"""The image that every node runs: Dockerfile and what its context leaves out.

Built from the root of this tree: `docker build -f OUT/Dockerfile -t NAME .`. torch's wheels bring CUDA's libraries, so
the base must only be no newer than the driver of the nodes. Knows nothing of weights: they lie on a volume.
"""

BASE = "nvidia/cuda:13.0.1-runtime-ubuntu24.04"
UID = 10001
ROOT = "/srv/magicvideo"
DATA = "/var/lib/magicvideo"
HUB = "/var/cache/magicvideo/hub"
FOLDERS = ("client", "cluster", "deployments", "stages")

# Login shells, which KubeRay and `ray up` use, read /etc/profile, which sets PATH anew; /etc/profile.d comes after it.
DOCKERFILE = f"""\
# Rendered by `python -m cluster render`. From the root of the tree: docker build -f Dockerfile -t NAME .
ARG BASE={BASE}
FROM ${{BASE}}

RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\
      ca-certificates openssh-client python3 python3-venv redis-server rsync wget \\
 && rm -rf /var/lib/apt/lists/* \\
 && groupadd --gid {UID} magicvideo \\
 && useradd --uid {UID} --gid {UID} --create-home --shell /bin/bash magicvideo \\
 && mkdir -p {DATA} {HUB} \\
 && chown -R {UID}:{UID} /var/lib/magicvideo /var/cache/magicvideo \\
 && echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/magicvideo.sh

ENV PATH=/opt/venv/bin:$PATH \\
    PYTHONPATH={ROOT} \\
    PYTHONUNBUFFERED=1 \\
    HF_HOME={HUB} \\
    RAY_USAGE_STATS_ENABLED=0 \\
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 \\
    RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S=1 \\
    RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S=2

WORKDIR {ROOT}
# First what changes rarely: libraries. The project itself is not installed, it is found through PYTHONPATH.
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY client client
RUN python3 -m venv /opt/venv \\
 && pip install --no-cache-dir -c constraints.txt '.[serve,s3,cluster]' \\
 && pip uninstall --yes magicvideo \\
 && rm -rf build *.egg-info client

{chr(10).join(f"COPY {folder} {folder}" for folder in FOLDERS)}
COPY serve_config.yaml ./

USER {UID}:{UID}
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=6 \\
  CMD wget -q --tries 1 -T 3 -O- http://127.0.0.1:8000/-/healthz || exit 1
# Kubernetes and `ray up` put `ray start` in its place; by itself the image is the server of one machine without a GPU.
CMD ["python", "-m", "deployments", "serve", "--laptop", "--data-dir", "{DATA}"]
"""

_WANTED = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE", "serve_config.yaml", *FOLDERS)
DOCKERIGNORE = "\n".join(["*", *(f"!{name}" for name in _WANTED), "**/__pycache__", "**/*.mp4"]) + "\n"
