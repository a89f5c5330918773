"""Untrained networks of a few thousand weights, as trainees: the tiny preset's forms and the paper's."""

from diffusers import UNet2DConditionModel

from stages.model.network.appearance import Appearance, split_adapter
from stages.model.network.control import ControlNet, PlainControl, SparseControl
from stages.model.network.network import VideoNetwork, inflate
from stages.model.network.text import TextEncoder
from stages.settings import Control, ImageMode
from stages.training.video.trainee import Trainee
from tests.stages import random_parts as parts

CONTROLS = {
    "plain": Control("control"),
    "keyframes": Control("control", image="keyframes"),
    "sparse": Control("control", kind="sparse"),
}


def make_trainee(control: str = "plain", *, patches: bool = False, image_mode: ImageMode = "single_frame") -> Trainee:
    spatial: UNet2DConditionModel = parts.make_unet()
    unet, vae = inflate(spatial, parts.make_motion()), parts.make_vae()
    adapter = parts.patch_adapter() if patches else parts.global_adapter()
    appearance = Appearance(parts.make_image_encoder(), split_adapter(adapter))
    appearance.install(unet)
    loaded: ControlNet = (
        SparseControl(parts.make_sparse(), vae) if control == "sparse" else PlainControl(parts.make_control(spatial))
    )
    network = VideoNetwork(
        unet=unet,
        vae=vae.requires_grad_(False),
        text=TextEncoder(parts.make_tokenizer(), parts.make_text().requires_grad_(False)),
        appearance=appearance,
        controls={"control": loaded},
        max_frames=32,
    )
    return Trainee(network, [CONTROLS[control]], image_mode)
