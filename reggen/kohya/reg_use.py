"""The use of regularization images: how often each is trained on. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def reg_uses(total: int, folders: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The number of uses of each reg image, folder by folder, where train images times repeats make ``total``.

    ``folders`` are (images, repeats) in the order the trainer lists them. train_util.py,
    DreamBoothDataset.__init__: one image after another is taken with its folder's repeats until ``total`` is
    reached, which may overshoot; the rest is never used. If all do not reach it, each gets one more in turn
    until it is exactly reached. Without train images none is used.
    """
    used, taken = [[0] * images for images, _ in folders], 0
    for folder, (images, repeats) in zip(used, folders, strict=True):
        wanted = min(images, max(0, -(-(total - taken) // repeats)))
        folder[:wanted] = [repeats] * wanted
        taken += wanted * repeats
    count = sum(images for images, _ in folders)
    more, rest = divmod(max(0, total - taken), count) if count else (0, 0)
    for folder in used if more or rest else ():
        first = min(rest, len(folder))
        folder[:] = [n + more + (place < first) for place, n in enumerate(folder)]
        rest -= first
    return used
