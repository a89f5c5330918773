"""The threat model names tests that exist, and the proxy's file is one that nginx takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THREATS = (ROOT / "deployments" / "THREATS.md").read_text()
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
OPENSSL = shutil.which("openssl")


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", THREATS))
    written = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", file.read_text())
    }
    assert len(named) >= 25
    assert named <= written, named - written


@pytest.mark.skipif(NGINX is None or OPENSSL is None, reason="nginx is not here: apt-get install nginx-light openssl")
def test_nginx_takes_the_file_that_is_shipped(tmp_path: Path) -> None:
    assert NGINX is not None
    assert OPENSSL is not None
    key, certificate = tmp_path / "videos.key", tmp_path / "videos.pem"
    words = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=videos.example.com"]
    subprocess.run(
        [*words, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=120
    )
    shipped = (ROOT / "deployments" / "nginx.conf").read_text()
    given = shipped.replace("/etc/ssl/videos", str(tmp_path / "videos")).replace("/var/log/nginx", str(tmp_path))
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"pid {tmp_path}/pid;\nerror_log {tmp_path}/log;\nevents {{}}\nhttp {{\naccess_log off;\n{given}\n}}\n"
    )
    done = subprocess.run([NGINX, "-t", "-c", str(file)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
