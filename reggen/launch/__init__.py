"""A ComfyUI process of our own."""
