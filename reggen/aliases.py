"""Names of samplers, schedulers and settings in other tools: A1111, kohya, diffusers, k-diffusion. Pure.

A suggestion by likeness alone would name another sampler ("euler" for "euler_a"), so these are looked up first.
"""

from __future__ import annotations

import re

_SAMPLERS = {
    "euler a": "euler_ancestral",
    "euler cfg++": "euler_cfg_pp",
    "euler a cfg++": "euler_ancestral_cfg_pp",
    "heun++": "heunpp2",
    "dpm2": "dpm_2",
    "dpm2 a": "dpm_2_ancestral",
    "dpm fast": "dpm_fast",
    "dpm adaptive": "dpm_adaptive",
    "dpmsolver": "dpmpp_2m",
    "dpmsolver++": "dpmpp_2m",
    "dpmsolversinglestep": "dpmpp_2s_ancestral",
    "dpm++": "dpmpp_2m",
    "dpm++ 2m": "dpmpp_2m",
    "dpm++ 2m sde": "dpmpp_2m_sde",
    "dpm++ 2m sde heun": "dpmpp_2m_sde_heun",
    "dpm++ 3m sde": "dpmpp_3m_sde",
    "dpm++ 2s a": "dpmpp_2s_ancestral",
    "dpm++ sde": "dpmpp_sde",
    "unipc": "uni_pc",
    "restart": "",
    "plms": "",
    "pndm": "",
}
"""ComfyUI's samplers by the names of others, as `_plain` writes these; "" for one that ComfyUI does not have."""
_SCHEDULERS = {
    "karras": "karras",
    "exponential": "exponential",
    "sgm uniform": "sgm_uniform",
    "uniform": "normal",
    "automatic": "normal",
    "simple": "simple",
    "beta": "beta",
    "kl optimal": "kl_optimal",
    "ddim": "ddim_uniform",
    "ddim uniform": "ddim_uniform",
    "align your steps": "",
}
_WORDS_OF_A_SAMPLER = {"ancestral": "a", "dpmpp": "dpm++", "dpm 2": "dpm2", "uni pc": "unipc"}
_KEYS = {
    "dataset.root": "reg_data_dir class_data_dir output output_dir outdir output_folder output_path folder path dir",
    "dataset.class": "class_tokens class_token class_name class_prompt class_word class_words classname",
    "dataset.count": "num_images number_of_images images image_count num_class_images class_images n_images number "
    "num n total amount n_iter batch_count iterations max_images",
    "dataset.repeats": "num_repeats repeat n_repeats",
    "dataset.format": "image_format file_format save_format extension ext filetype samples_format",
    "dataset.prefix": "filename_prefix file_prefix",
    "sampling.checkpoint": "ckpt ckpt_name ckpt_path model_name model_path base_model sd_model sd_model_checkpoint "
    "pretrained_model_name_or_path pretrained_model checkpoint_name",
    "sampling.model": "unet unet_name diffusion_model transformer",
    "sampling.text_encoders": "clip clip_name clip_name1 text_encoder clip_l t5xxl",
    "sampling.vae": "vae_name vae_path sd_vae",
    "sampling.width": "w image_width sample_width",
    "sampling.height": "h image_height sample_height",
    "sampling.steps": "num_inference_steps sample_steps sampling_steps num_steps inference_steps ddim_steps "
    "n_steps step",
    "sampling.cfg": "cfg_scale guidance_scale scale cfgscale classifier_free_guidance",
    "sampling.guidance": "distilled_cfg_scale distilled_cfg embedded_guidance flux_guidance",
    "sampling.sampler": "sampler_name sampler_index sample_sampler sampling_method noise_scheduler",
    "sampling.scheduler": "scheduler_name schedule_type schedule noise_schedule",
    "sampling.seed": "noise_seed manual_seed sample_seed first_seed base_seed",
    "sampling.batch": "batch_size vae_batch_size train_batch_size sample_batch_size",
    "sampling.clip_skip": "clipskip clip_stop_at_last_layers stop_at_clip_layer",
    "sampling.width and sampling.height": "resolution image_size img_size dimensions",
    "prompts.positive": "prompt positive_prompt pos_prompt positives text",
    "prompts.negative": "negative_prompt neg_prompt neg negatives uc",
    "prompts.wildcards": "wildcard_dir wildcards_dir wildcard_folder wildcards_folder wildcard",
    "training.folder": "train_data_dir instance_data_dir image_dir train_dir training_folder training_dir",
    "training.config": "dataset_config",
    "training.trigger": "trigger_word trigger_words trigger_words instance_prompt instance_token activation_text "
    "class_trigger token",
    "servers": "server servers_url server_url server_urls server_address host hosts address comfyui comfy comfyui_url "
    "backend backends",
    "workflow.file": "workflow_file workflow_path workflow_json",
    "guard.forbid": "forbidden blacklist banned forbidden_words",
    "notify.urls": "webhook webhooks discord ntfy url_notify notifications",
}
"""Keys of the job file, each with the names that other tools have for it."""
_HOMES = {name: home for home, names in _KEYS.items() for name in names.split()}


def key_called(name: str) -> str:
    """The key of the job file that other tools call so, with its table: "sampling.cfg" for "cfg_scale"; "" for none."""
    return _HOMES.get(name.lower().lstrip("-").replace("-", "_"), "")


def sampler_called(name: str) -> tuple[str, str] | None:
    """ComfyUI's sampler and scheduler for another tool's name of a sampler; the scheduler is "" where none is named.

    The sampler is "" for one that ComfyUI does not have. None for a name that is not known.
    """
    plain = _plain(name)
    if plain in _SAMPLERS:
        return _SAMPLERS[plain], ""
    for ending, scheduler in _SCHEDULERS.items():
        if plain.endswith(f" {ending}") and (found := sampler_called(plain.removesuffix(f" {ending}"))):
            return found[0], scheduler
        if plain.endswith(f" {ending}"):
            return plain.removesuffix(f" {ending}").replace(" ", "_"), scheduler
    return None


def scheduler_called(name: str) -> str:
    """ComfyUI's scheduler for another tool's name; "" for a name that is not known."""
    return _SCHEDULERS.get(_plain(name), "")


def _plain(name: str) -> str:
    """A sampler's name in one spelling: "k_euler_a", "Euler A" and "Euler Ancestral" are all "euler a"."""
    words = re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)).strip().lower()
    words = words.removeprefix("k ").removeprefix("sample ")
    words = re.sub(r" ?(discrete)?( scheduler)$", "", words)
    for word, short in _WORDS_OF_A_SAMPLER.items():
        words = re.sub(rf"(?<!\w){word}(?!\w)", short, words)
    return words.replace("dpm solver", "dpmsolver").replace("multistep", "").strip()
