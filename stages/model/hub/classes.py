"""Which video pipelines of diffusers run behind I2V and V2V, and why each of the others does not.

Those of `ANIMATES` and `REDRAWS` are each run, built tiny, by `tests/stages/modern/test_classes.py`, which holds these
tables to every class of the diffusers that is pinned; those of `REFUSED` are told by name, with a reason, before a file
is looked at. A class that a later diffusers brings is in none of them: it is tried if its call looks right, with a
warning. Knows nothing of weights.
"""

import inspect

import diffusers

ANIMATES = frozenset(
    {
        "CogVideoXImageToVideoPipeline",
        "HunyuanVideo15ImageToVideoPipeline",
        "Kandinsky5I2VPipeline",
        "Kandinsky6TI2VAPipeline",
        "LTX2ImageToVideoPipeline",
        "LTXConditionPipeline",
        "LTXImageToVideoPipeline",
        "SanaImageToVideoPipeline",
        "SkyReelsV2ImageToVideoPipeline",
        "StableVideoDiffusionPipeline",
        "WanImageToVideoPipeline",
    }
)
UPSCALES = frozenset({"Kandinsky6SRPipeline", "LTX2LatentUpsamplePipeline", "LTXLatentUpsamplePipeline"})
SEES_REFERENCE = frozenset({"WanVACEPipeline"})  # of those that redraw
REDRAWS = UPSCALES | SEES_REFERENCE | frozenset(
    {
        "AnimateDiffVideoToVideoControlNetPipeline",
        "AnimateDiffVideoToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
        "LTXConditionPipeline",
        "WanVideoToVideoPipeline",
    }
)  # fmt: skip

_OLD = "is one that diffusers has given up and no longer tests"
_CONTINUES = "goes on from a video and does not redraw it"
_GUARD = "runs the safety model of the package cosmos_guardrail in every call, which is not a dependency here"
_LLAVA = "was not tried here: no tiny build of its language model is in the tests"
_CONDITIONS = "takes its pictures as `conditions` with places and strengths, which a stage does not have"
REFUSED = {
    "AnimateDiffControlNetPipeline": "needs a video for its ControlNet before there is one",
    "AnimateDiffSparseControlNetPipeline": "is what the built-in network is: name its parts in the preset instead",
    "AnyFlowFARPipeline": _CONTINUES,
    "AnyFlowPipeline": _CONTINUES,
    "ChronoEditPipeline": "edits a picture; its frames are the way to the edit and no video",
    "CogVideoXFunControlPipeline": "needs a control video (depth, edges, poses), which a stage does not have",
    "Cosmos2VideoToWorldPipeline": _GUARD,
    "Cosmos2_5_PredictBasePipeline": _GUARD,
    "Cosmos3OmniPipeline": _GUARD,
    "CosmosVideoToWorldPipeline": _GUARD,
    "EasyAnimateControlPipeline": "needs a control video (depth, edges, poses), which a stage does not have",
    "EasyAnimateInpaintPipeline": "paints inside a mask, which a stage does not have",
    "HeliosPipeline": "makes whole chunks of its own length and not the number of frames that it is asked for",
    "HeliosPyramidPipeline": "makes whole chunks of its own length and not the number of frames that it is asked for",
    "HunyuanSkyreelsImageToVideoPipeline": _LLAVA,
    "HunyuanVideoFramepackPipeline": "makes whole sections and not the number of frames that it is asked for",
    "HunyuanVideoImageToVideoPipeline": _LLAVA,
    "I2VGenXLPipeline": _OLD,
    "LTX2ConditionPipeline": _CONDITIONS,
    "LTX2DFRPipeline": _CONDITIONS,
    "LTX2DFRTemporalRefinePipeline": "refines the latents of another pipeline, and keyframes are pixels here",
    "LTX2InContextPipeline": _CONDITIONS,
    "LTXI2VLongMultiPromptPipeline": "makes latents of a script of several prompts, where a stage has one",
    "LucyEditPipeline": "edits a video by an instruction, where V2V has a prompt that says what is seen",
    "MotifVideoImage2VideoPipeline": _LLAVA,
    "PIAPipeline": _OLD,
    "SanaWMPipeline": "walks through a world by camera actions, which a stage does not have",
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": "makes long videos in blocks of its own with noise a frame each",
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _CONTINUES,
    "VideoToVideoSDPipeline": _OLD,
    "WanAnimatePipeline": "needs a video of poses and one of a face, which a stage does not have",
}

_SEEN = frozenset(
    {"image", "video", "conditions", "control_video", "conditioning_frames", "pose_video", "cond_image", "latents"}
)
_MADE = frozenset({"num_frames", "frames", "video", "pose_video", "control_video", "conditioning_frames"})


def takes(cls: type, *names: str) -> bool:
    """Whether a call of the pipeline class takes all of these arguments."""
    return set(names) <= set(inspect.signature(cls.__call__).parameters)


def video_classes() -> dict[str, type]:
    """Every pipeline of diffusers that is given a picture or a video and makes frames, by name."""
    found = {}
    for name in dir(diffusers):
        cls = getattr(diffusers, name, None) if name.endswith("Pipeline") else None
        if isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline):
            taken = set(inspect.signature(cls.__call__).parameters)
            if taken & _MADE and taken & (_SEEN - {"latents"}):
                found[name] = cls
    return found


def why_not(name: str, stage: str) -> str | None:
    """Why a pipeline class cannot be in the place of `stage` ("i2v" or "v2v"), None where it can or nobody knows."""
    if name in (ANIMATES if stage == "i2v" else REDRAWS):
        return None
    if name in REFUSED:
        return REFUSED[name]
    if name in ANIMATES | REDRAWS:
        return f"{'redraws' if stage == 'i2v' else 'animates'}: it belongs into part '{_other(stage)}_pipeline'"
    return None


def _other(stage: str) -> str:
    return "v2v" if stage == "i2v" else "i2v"
