"""reggen: regularization images for LoRA and DreamBooth, made overnight on ComfyUI servers."""
