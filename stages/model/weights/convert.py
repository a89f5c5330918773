"""Makes safetensors of a torch pickle, once, for a user who trusts where it comes from (`python -m stages weights`).

The pickle is read with `weights_only=True`, which refuses everything but tensors. Never called while a stage loads.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from client._shell.outputs import written
from stages.base import WeightsError
from stages.model.weights.contents import PICKLES


def convert_pickle(folder: Path) -> list[Path]:
    """Make a safetensors file of every torch pickle in `folder`, which is read once with `weights_only=True`.

    Raises:
        WeightsError: there is none, or it holds more than tensors.
    """
    pickles = sorted(file for file in folder.glob("[!.]*") if file.suffix in PICKLES)
    if not pickles:
        raise WeightsError(f"{folder} holds no pickle to convert; it needs one of {', '.join(PICKLES)}.")
    made = []
    for file in pickles:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            tensors = {key: value.contiguous().clone() for key, value in state.items()}
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise WeightsError(f"{file} holds more than tensors and was not read further ({reason}).") from error
        target = file.with_name(file.name.replace("pytorch_model", "diffusion_pytorch_model", 1)).with_suffix("")
        if "diffusion_pytorch_model" in file.name or "pytorch_model" not in file.name:
            target = file.with_suffix("")
        target = target.with_name(target.name + ".safetensors")
        with written(target) as draft:
            save_file(tensors, draft, {"format": "pt"})
        made.append(target)
    return made
