"""Finding out that a server which is away, though its socket may be open, can be used again."""

from __future__ import annotations

from contextlib import suppress

from reggen.comfy.client import Client
from reggen.comfy.download import DOWNLOADING
from reggen.comfy.history import ImageRef
from reggen.comfy.prompts import PostedPrompts
from reggen.comfy.refusals import is_by_proxy
from reggen.comfy.server_state import ServerState
from reggen.errors import ServerError, Unreachable


class Recovery:
    """Repeats the requests that a server refused; only when they are answered is it up again."""

    def __init__(self, client: Client, state: ServerState, prompts: PostedPrompts) -> None:
        self._client, self._state, self._prompts = client, state, prompts
        self._withheld: ImageRef | None = None  # the picture for whose refusal the server is away
        self._served: ImageRef | None = None  # the last picture that was not refused
        self._broken: ImageRef | None = None  # a picture that was refused while others were not

    async def check_polling(self) -> bool:
        """After a wrong answer, find out if polls are answered, by one of no prompt. If not, the server is away."""
        if self._state.refusals.why:
            return False
        try:
            await self._client.check_polling()
        except Unreachable as error:
            self._state.went_away(error.what)
        except ServerError as error:
            self._state.refused(error)
        else:
            return True
        return False

    def picture_served(self, picture: ImageRef) -> None:
        """Note that a picture is being downloaded."""
        self._served = picture
        self._state.refusals.answered(DOWNLOADING)

    def picture_refused(self, picture: ImageRef, error: ServerError) -> bool:
        """Note that a picture was not served. True when the server is away for that.

        Then it is away until it serves this picture; or until it serves the last one that it did serve, which shows
        that only this picture is refused.
        """
        if picture == self._broken or not is_by_proxy(error) or not self._state.refusals.count(error):
            return False
        self._withheld = picture
        self._state.refused(error)
        return True

    async def try_again(self) -> None:
        """Find out if the server is back."""
        refusals = self._state.refusals
        if not refusals.why:
            with suppress(ServerError):
                await self._client.queue_depth()
                self._state.answered()
            return
        if refusals.ask_at > self._state.clock():
            return
        try:
            await self._repeat_refused()
        except Unreachable as error:
            refusals.end()  # it does not refuse, it is gone: another way leads back from that
            self._state.went_away(error.what)
        except ServerError as error:
            self._state.refused(error)
        else:
            refusals.end()
            await self._prompts.take_back_orphans()
            self._state.answered()

    async def _repeat_refused(self) -> None:
        """Repeat the request that was refused. Raises ServerError while it still is."""
        if self._withheld is None:
            await self._client.check_polling()
            return
        try:
            await self._view(self._withheld)
        except ServerError as error:
            if is_by_proxy(error):
                if self._served is None:
                    raise
                await self._view(self._served)
                self._broken = self._withheld
        self._withheld = None

    async def _view(self, picture: ImageRef) -> None:
        async with self._client.view(picture):
            pass
