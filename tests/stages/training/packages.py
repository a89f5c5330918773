"""npm packages of a test's own in the cache, where the code that fetches and checks them finds them."""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def pack(cache: Path, spec: str, files: Mapping[str, bytes]) -> tuple[str, str]:
    """One package like "name@1"; what names and checks it."""
    path = cache / "data" / f"{spec.replace('@', '-')}.tgz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as made:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return spec, hashlib.sha256(path.read_bytes()).hexdigest()
