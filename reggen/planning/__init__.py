"""The plan: prompt, size, seed and caption of each slot, computed and never stored. Pure."""
