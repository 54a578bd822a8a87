"""Model families as ComfyUI's own templates of 2026 use them: one row of data a family.

Sources: the page templates of ComfyUI 0.33.0, its blueprints and comfy/supported_models.py, and ComfyUI_examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from reggen.geometry import Size

_AE, _FLUX2_VAE, _QWEN_VAE, _WAN_VAE = (
    "ae.safetensors", "flux2-vae.safetensors", "qwen_image_vae.safetensors", "wan_2.1_vae.safetensors",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """The files and nodes that a model family needs, and the values that its makers recommend.

    ``encoders`` and ``vae`` are the usual names of its files; without encoders one checkpoint holds everything.
    Width and height must be divisible by ``multiple``; ``native`` the size it was trained for, in pixels.
    ``negative`` is "text", or "zeroed" where a negative prompt has no effect. ``shift`` is the node that sets it, with
    the usual value. ``custom`` names the guider of a custom sampler; ``sigmas`` its scheduler node.
    """

    native: Size
    steps: int
    cfg: float
    sampler: str = "euler"
    scheduler: str = "simple"
    encoders: tuple[str, ...] = ()
    clip_type: str = ""
    vae: str = ""
    latent: str = "EmptySD3LatentImage"
    multiple: int = 16
    guidance: float | None = None
    negative: str = "text"
    shift: tuple[str, float] | None = None
    custom: str = ""
    sigmas: str = "BasicScheduler"
    extra: tuple[tuple[str, str, tuple[tuple[str, Any], ...]], ...] = ()  # (after "clip" or "model", class, inputs)
    latent_inputs: tuple[tuple[str, Any], ...] = ()

    @property
    def is_split(self) -> bool:
        """If its model, text encoders and VAE usually are files of their own."""
        return bool(self.encoders and self.vae)


_T5_OPTIONS = ("clip", "T5TokenizerOptions", (("min_padding", 0), ("min_length", 0)))
_KLEIN = Family(
    native=(1024, 1024), steps=20, cfg=5, encoders=("qwen_3_4b.safetensors",), clip_type="flux2", vae=_FLUX2_VAE,
    latent="EmptyFlux2LatentImage", custom="CFGGuider", sigmas="Flux2Scheduler",
)  # fmt: skip
_HIDREAM = (
    "clip_l_hidream.safetensors", "clip_g_hidream.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors",
    "llama_3.1_8b_instruct_fp8_scaled.safetensors",
)  # fmt: skip
_FLUX = ("clip_l.safetensors", "t5xxl_fp16.safetensors")

CLASSIC = Family((512, 512), 20, 7, "euler_ancestral", "normal", latent="EmptyLatentImage", multiple=8)
"""The built-in workflow, where a job names no family."""

FAMILIES: dict[str, Family] = {
    "sd15": Family((512, 512), 20, 7, scheduler="normal", latent="EmptyLatentImage", multiple=8),
    "sdxl": Family((1024, 1024), 25, 7, scheduler="normal", latent="EmptyLatentImage", multiple=8),
    "sdxl-vpred": Family(
        (1024, 1024), 28, 5, scheduler="normal", latent="EmptyLatentImage", multiple=8,
        extra=(("model", "ModelSamplingDiscrete", (("sampling", "v_prediction"), ("zsnr", True))),),
    ),
    "sd3.5": Family(
        (1024, 1024), 20, 4, scheduler="sgm_uniform", encoders=(
            "clip_l.safetensors", "clip_g.safetensors", "t5xxl_fp16.safetensors",
        ),
    ),
    "flux": Family(
        (1024, 1024), 20, 1, encoders=_FLUX, clip_type="flux", vae=_AE, guidance=3.5, negative="zeroed",
    ),
    "flux-schnell": Family((1024, 1024), 4, 1, encoders=_FLUX, clip_type="flux", vae=_AE, negative="zeroed"),
    "flux2": Family(
        (1024, 1024), 20, 1, encoders=("mistral_3_small_flux2_bf16.safetensors",), clip_type="flux2", vae=_FLUX2_VAE,
        latent="EmptyFlux2LatentImage", guidance=4.0, negative="none", custom="BasicGuider", sigmas="Flux2Scheduler",
    ),
    "flux2-klein": _KLEIN,
    "flux2-klein-distilled": Family(
        (1024, 1024), 4, 1, encoders=_KLEIN.encoders, clip_type="flux2", vae=_FLUX2_VAE, negative="zeroed",
        latent="EmptyFlux2LatentImage", custom="CFGGuider", sigmas="Flux2Scheduler",
    ),
    "qwen-image": Family(
        (1328, 1328), 20, 4, encoders=("qwen_2.5_vl_7b_fp8_scaled.safetensors",), clip_type="qwen_image", vae=_QWEN_VAE,
        shift=("ModelSamplingAuraFlow", 3.1),
    ),
    "z-image": Family(
        (1024, 1024), 25, 4, "res_multistep", encoders=("qwen_3_4b.safetensors",), clip_type="lumina2", vae=_AE,
        shift=("ModelSamplingAuraFlow", 3.0),
    ),
    "z-image-turbo": Family(
        (1024, 1024), 8, 1, "res_multistep", encoders=("qwen_3_4b.safetensors",), clip_type="lumina2", vae=_AE,
        negative="zeroed", shift=("ModelSamplingAuraFlow", 3.0),
    ),
    "chroma": Family(
        (1024, 1024), 26, 3.5, scheduler="beta", encoders=("t5xxl_fp8_e4m3fn_scaled.safetensors",), clip_type="chroma",
        vae=_AE, shift=("ModelSamplingAuraFlow", 1.0), extra=(_T5_OPTIONS,),
    ),
    "hidream": Family(
        (1024, 1024), 50, 5, "uni_pc", encoders=_HIDREAM, vae=_AE, shift=("ModelSamplingSD3", 3.0),
    ),
    "hidream-dev": Family(
        (1024, 1024), 28, 1, "lcm", "normal", encoders=_HIDREAM, vae=_AE, negative="zeroed",
        shift=("ModelSamplingSD3", 6.0),
    ),
    "lumina2": Family((1024, 1024), 25, 4, "res_multistep", shift=("ModelSamplingAuraFlow", 4.0)),
    "auraflow": Family((1024, 1024), 20, 3.5, scheduler="sgm_uniform", latent="EmptyLatentImage", multiple=8),
    "anima": Family(
        (1024, 1024), 30, 4, encoders=("qwen_3_06b_base.safetensors",), clip_type="stable_diffusion", vae=_QWEN_VAE,
        latent="EmptyLatentImage",
    ),
    "cosmos-predict2": Family(
        (1024, 1024), 35, 4, scheduler="karras", encoders=("oldt5_xxl_fp8_e4m3fn_scaled.safetensors",),
        clip_type="cosmos", vae=_WAN_VAE,
    ),
    "wan2.1": Family(
        (832, 480), 30, 6, "uni_pc", encoders=("umt5_xxl_fp8_e4m3fn_scaled.safetensors",), clip_type="wan",
        vae=_WAN_VAE, latent="EmptyHunyuanLatentVideo", latent_inputs=(("length", 1),), shift=("ModelSamplingSD3", 8.0),
    ),
    "hunyuan-image": Family(
        (2048, 2048), 20, 3.5, encoders=("qwen_2.5_vl_7b.safetensors", "byt5_small_glyphxl_fp16.safetensors"),
        clip_type="hunyuan_image", vae="hunyuan_image_2.1_vae_fp16.safetensors", latent="EmptyHunyuanImageLatent",
        multiple=32, shift=("ModelSamplingSD3", 5.0),
    ),
    "krea2-turbo": Family(
        (1024, 1024), 8, 1, encoders=("qwen3vl_4b_fp8_scaled.safetensors",), clip_type="krea2", vae=_QWEN_VAE,
        latent="EmptyLatentImage", multiple=8, negative="zeroed",
    ),
    "ernie-image": Family(
        (1024, 1024), 20, 4, encoders=("ministral-3-3b.safetensors",), clip_type="flux2", vae=_FLUX2_VAE,
        latent="EmptyFlux2LatentImage",
    ),
    "omnigen2": Family(
        (1024, 1024), 20, 5, encoders=("qwen_2.5_vl_fp16.safetensors",), clip_type="omnigen2", vae=_AE,
    ),
}  # fmt: skip
"""The families by the name that a job gives them."""

_SIGNS = (  # of a file's name, or of modelspec.architecture in its header; the first that is found counts
    (r"flux[-._ ]?2.*klein.*base", "flux2-klein"),
    (r"flux[-._ ]?2.*klein", "flux2-klein-distilled"),
    (r"flux[-._ ]?2", "flux2"),
    (r"flux.*schnell", "flux-schnell"),
    (r"flux", "flux"),
    (r"qwen[-_ ]?image(?!.*edit)", "qwen-image"),
    (r"z[-_ ]?image.*turbo", "z-image-turbo"),
    (r"z[-_ ]?image", "z-image"),
    (r"chroma(?!.*radiance)", "chroma"),
    (r"hidream.*(dev|fast)", "hidream-dev"),
    (r"hidream", "hidream"),
    (r"lumina|netayume", "lumina2"),
    (r"aura[-_ ]?flow|pony.?v7", "auraflow"),
    (r"(^|[-_ ])anima([-_. \d]|$)", "anima"),
    (r"cosmos.*predict2", "cosmos-predict2"),
    (r"wan[-_ ]?2[._]?1.*t2v", "wan2.1"),
    (r"hunyuan[-_ ]?image", "hunyuan-image"),
    (r"krea[-_ ]?2", "krea2-turbo"),
    (r"ernie", "ernie-image"),
    (r"omnigen2", "omnigen2"),
    (r"sd3|stable-diffusion-(v?3)", "sd3.5"),
    (r"xl.*v[-_]?pred|noobai.*vpred", "sdxl-vpred"),
    (r"xl|pony|illustrious|noobai", "sdxl"),
    (r"v1-5|sd[-_ ]?1[._]?5|stable-diffusion-v1", "sd15"),
)


def family_of(file: str, architecture: str = "") -> str:
    """The family of a model by its header's architecture, else by its file's name; "" where neither tells."""
    for text in (architecture, re.split(r"[\\/]+", file)[-1]):
        for sign, family in _SIGNS if text else ():
            if re.search(sign, text, re.IGNORECASE):
                return family
    return ""
