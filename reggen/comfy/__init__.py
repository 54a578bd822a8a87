"""The conversation with ComfyUI servers: requests and their answers, events, and prompts from post to end."""
