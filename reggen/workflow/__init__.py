"""ComfyUI's workflow graphs, and which of their inputs a job sets."""
