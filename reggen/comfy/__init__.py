"""Talking with ComfyUI: what it says (wire), what that means (follow), the sockets (client), one server (link)."""
