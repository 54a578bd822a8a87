"""ComfyUI processes that reggen itself starts, restarts and ends."""
