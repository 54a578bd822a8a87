"""Settings of a stand-in, and what follows from its version.

`Settings` is the user's part: how long an image takes, which models exist, which server it imitates.
`Traits` is what follows from the version: the facts in which ComfyUI servers of different years
differ, one field each, so that no other module compares version strings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One stand-in server. Times are in seconds; everything has a usable default."""

    seconds: float = 0.05
    """Busy time of one sampled picture, spread over the sampler's steps; a batch of n costs n times that."""
    prompt_seconds: float = 0.0
    """Busy time that every sampled prompt takes in addition, however many pictures it makes."""
    trivial_seconds: float = 0.005
    """Busy time of a prompt that runs nodes but no sampler (EmptyImage graphs)."""
    gap: float = 0.0
    """Idle time before each prompt, though prompts wait: ComfyUI collects garbage there."""
    largest_batch: int | None = None
    """Pictures of one prompt that fit into memory; more end in an out-of-memory error."""
    history_lag: float = 0.001
    """Time between `execution_success` and the history entry, a race that clients must survive."""
    checkpoints: tuple[str, ...] = ("AnythingXL_inkBase.safetensors",)
    loras: tuple[str, ...] = ()
    vaes: tuple[str, ...] = ("pixel_space",)
    unets: tuple[str, ...] = ()
    lenient: bool = False
    """Accept any model or sampler name and any node class; unknown classes are passed through."""
    version: str = "0.33.0"
    """One of `VERSIONS`."""
    history_limit: int = 10_001
    """History entries kept; the oldest goes first."""
    cache_lru: int = 0
    """Node results kept across prompts; 0 keeps only those that the previous prompt shares with this one."""
    previews: bool = False
    """Send preview pictures while sampling, as a server started with a preview method does."""

    same_every: int = 0
    """Seeds divisible by this give one and the same picture, like a model that repeats itself. 0: none do."""

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version {self.version!r} is not one of {', '.join(VERSIONS)}")
        for name in ("seconds", "prompt_seconds", "trivial_seconds", "history_lag", "gap"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number from 0 on, and not infinite")
        if self.history_limit < 1 or self.cache_lru < 0:
            raise ValueError("history_limit must be at least 1 and cache_lru at least 0")

    @property
    def traits(self) -> Traits:
        """The behaviour of a server of this version."""
        return VERSIONS[self.version]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The differences between server versions on the wire."""

    reported: str | None
    """`system.comfyui_version`; None where the field does not exist."""
    prompt_ids: Literal["uuid", "any", "ignored"]
    """Prompt ids chosen by the client: only UUIDs accepted, any accepted, or all ignored."""
    aimed_interrupt: bool = True
    """/interrupt obeys `prompt_id`; without this it interrupts whatever runs."""
    timestamps: bool = True
    """`execution_success`, and timestamps on the execution messages."""
    display_nodes: bool = True
    """`executed` frames for cached outputs, `display_node` in frames, `meta` in history entries."""
    progress_state: bool = True
    """`progress_state` frames, feature flags, previews with metadata and /features."""
    history_offset: bool = True
    throttled: bool = True
    """Progress at most every 100 ms, instead of at every step."""
    create_time: bool = True
    preview_method: bool = True
    """`extra_data.preview_method` is obeyed."""
    jobs: bool = True
    """/api/jobs and the cancel routes exist."""
    missing_node_type: bool = True
    """The error type of an unknown class; older servers say `invalid_prompt`."""
    errors_as_list: bool = False
    """`node_errors` is `[]` where there are none."""
    cycle_check: bool = True
    origin_check: bool = True


_OLD: dict[str, bool] = {
    "throttled": False,
    "create_time": False,
    "preview_method": False,
    "jobs": False,
    "missing_node_type": False,
    "cycle_check": False,
}
_OLDER: dict[str, bool] = {
    **_OLD,
    "aimed_interrupt": False,
    "progress_state": False,
    "history_offset": False,
    "errors_as_list": True,
}

VERSIONS: dict[str, Traits] = {
    "0.33.0": Traits(reported="0.33.0", prompt_ids="uuid"),
    "0.3.64": Traits(reported="0.3.64", prompt_ids="any", **_OLD),
    "2024-10": Traits(reported="unknown", prompt_ids="ignored", **_OLDER),
    "2024-07": Traits(
        reported=None,
        prompt_ids="ignored",
        timestamps=False,
        display_nodes=False,
        origin_check=False,
        **_OLDER,
    ),
}
"""The servers that can be imitated: the newest measured one, October 2025, October 2024, July 2024."""
