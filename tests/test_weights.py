"""What is committed under `stages/weights`: safetensors, small, and named by the model card with their digests."""

import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_weights_are_safetensors_and_small() -> None:
    files = [path for path in (ROOT / "stages" / "weights").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md", ".png", ".webp"}
    pictures = [path for path in files if path.suffix in (".png", ".webp")]
    assert sum(path.stat().st_size for path in pictures) <= 2_000_000
    weights = [path for path in files if path not in pictures]
    gan = ROOT / "stages" / "weights" / "gan" / "gan.safetensors"
    assert gan.stat().st_size <= 12_000_000
    assert sum(path.stat().st_size for path in weights if "tiny" in path.parts) <= 40_000_000
    assert sum(path.stat().st_size for path in weights) <= 60_000_000


@pytest.mark.slow
def test_the_model_card_names_every_weights_file_with_its_digest() -> None:
    weights = ROOT / "stages" / "weights"
    listed = {}
    for line in (weights / "MODEL_CARD.md").read_text().splitlines():
        if line.startswith("    ") and line.endswith(".safetensors"):
            digest, name = line.split()
            listed[name] = digest
    found = {
        str(path.relative_to(weights)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in weights.rglob("*.safetensors")
    }
    assert listed == found
