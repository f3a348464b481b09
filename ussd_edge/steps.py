"""One step of a session: finds the path that led to it, has the menu tell the screen, keeps what the next step needs.

Where the gateway sends the whole path, nothing is needed. Elsewhere the path before comes back in the gateway's token
or from the session store. Payment ids follow from where the session began and from the place of the PIN in its path, so
whatever is sent again, at once or later, is the same payment; and a dropped session that is gone on with is the same.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kibubu_client import Client
from ussd_edge.catalogues import LanguageBook
from ussd_edge.gateways.seam import Gateway, Phase, Step
from ussd_edge.ledger import LedgerAnswers
from ussd_edge.limits import REPLAY_CHARACTERS_MIN, REPLAY_MS_MAX, RESUME_S_MAX, SESSION_S_MAX
from ussd_edge.menu import texts
from ussd_edge.menu.asks import NOT_APPLIED, UNKNOWN, Screen
from ussd_edge.menu.session import SPENT_PIN, converse, dialled_inputs
from ussd_edge.menu.texts import Words
from ussd_edge.sessions import Dropped, Kept, Origin, Sealer, store_key
from ussd_edge.store import SessionStore, StoreDownError

GO_ON, START_AGAIN = "1", "2"
_OPEN_ENDS = frozenset({UNKNOWN, NOT_APPLIED, "error"})  # gone on with, these still find their true outcome


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session stands, its newest input included. `offered`: the phone was asked whether to go on with it."""

    origin: Origin
    inputs: tuple[str, ...]
    offered: Dropped | None = None
    pin_dialled: bool = False  # what was dialled had a PIN in it; nothing of it is used


class Steps:
    """`clock_ms` is the time of day, since several edges share a store."""

    def __init__(
        self,
        client: Client,
        store: SessionStore,
        sealer: Sealer,
        words_of: Mapping[str, Words],
        languages: LanguageBook,
        *,
        currency: str,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._client = client
        self._store = store
        self._sealer = sealer
        self._words_of = words_of
        self._languages = languages
        self._currency = currency
        self._clock_ms = clock_ms

    async def take(self, gateway: Gateway, step: Step) -> tuple[Screen, str]:
        """The screen, and the token for a gateway that carries one."""
        language = await self._languages.language_of(step.msisdn)
        words = self._words_of[language]
        try:
            place = await self._place(gateway, step)
            if place is None:
                return Screen(words(texts.LOST), ends=True, outcome="session_lost"), ""
            place = chosen(place)
            if place.pin_dialled:
                return Screen(words(texts.PIN_DIALLED), ends=True, outcome="pin_dialled"), ""
            screen = await self._screen(place, step, language)
            if screen.language not in ("", language):
                await self._languages.choose(step.msisdn, screen.language)
            return screen, await self._kept_for_next(gateway, step, place, screen)
        except StoreDownError:
            return Screen(words(texts.BUSY), ends=True, outcome="store_down"), ""

    # --- where the session stands -----------------------------------------------------------------------------------

    async def _place(self, gateway: Gateway, step: Step) -> Place | None:
        """None = the session is lost."""
        if step.phase is Phase.PATH:
            return await self._whole(gateway, step)
        if step.phase is Phase.BEGIN:
            return await self._begun(gateway, step)
        kept = self._carried(gateway, step) if gateway.carries_token else await self._stored(gateway, step)
        if step.tail is not None and (kept is None or kept.ended or not (kept.inputs or kept.offered)):
            return await self._begun(gateway, step)  # a gateway that does not say which request is the first
        if kept is None:
            return None
        typed = () if self._is_replay(kept, step.inputs[0]) else step.inputs
        return Place(kept.origin, kept.inputs + typed, kept.offered)

    async def _whole(self, gateway: Gateway, step: Step) -> Place:
        origin = Origin(gateway.name, step.session_id)
        with contextlib.suppress(StoreDownError):  # then there is no going on with a dropped session, and no more
            kept = await self._stored(gateway, step)
            if kept is not None:
                return Place(origin, step.inputs, kept.offered)
            offered = None if step.inputs else await self._dropped(step, origin)
            if offered is not None:
                await self._store_session(gateway, step, Kept(origin, (), self._clock_ms(), offered))
                return Place(origin, (), offered)
        return Place(origin, step.inputs)

    async def _begun(self, gateway: Gateway, step: Step) -> Place:
        tail = dialled_inputs(step.tail or ())
        if tail is None:
            return Place(Origin(gateway.name, step.session_id), (), pin_dialled=True)
        if step.session_id and not gateway.carries_token:
            kept = await self._stored(gateway, step)
            if kept is not None and not kept.ended and self._clock_ms() - kept.at_ms < REPLAY_MS_MAX:
                return Place(kept.origin, kept.inputs, kept.offered)
        origin = Origin(gateway.name, step.session_id or f"{self._clock_ms()}.{secrets.token_hex(8)}")
        offered = None
        if not tail:
            with contextlib.suppress(StoreDownError):
                offered = await self._dropped(step, origin)
        return Place(origin, tail, offered)

    def _is_replay(self, kept: Kept, typed: str) -> bool:
        """A gateway's retry, where neither a token nor a sequence number tells: nobody types the same number, or reads
        that a PIN was wrong and types another, within a second."""
        if not kept.inputs or len(typed) < REPLAY_CHARACTERS_MIN or self._clock_ms() - kept.at_ms >= REPLAY_MS_MAX:
            return False
        return kept.inputs[-1] == typed or kept.inputs[-1].startswith(SPENT_PIN)

    # --- the screen -------------------------------------------------------------------------------------------------

    async def _screen(self, place: Place, step: Step, language: str) -> Screen:
        if place.offered is not None:
            words = self._words_of[language]
            complaint = words.complaint(texts.NOT_A_CHOICE if place.inputs else "")
            return Screen(complaint + words.resume, ends=False, outcome="resume_offered")
        origin = place.origin
        answers = LedgerAnswers(self._client, origin.gateway, origin.session_id, step.msisdn, self._currency)
        conversation = converse(place.inputs, step.msisdn, self._words_of, language)
        try:
            ask = next(conversation)
            while True:
                ask = conversation.send(await answers.answer(ask))
        except StopIteration as stop:
            screen: Screen = stop.value
            return screen

    # --- what is kept -----------------------------------------------------------------------------------------------

    async def _kept_for_next(self, gateway: Gateway, step: Step, place: Place, screen: Screen) -> str:
        """An ended session is kept as it was before its last input: sent again, that is the same step again."""
        await self._remember_dropped(step, place, screen)
        if step.phase is Phase.PATH or (screen.ends and gateway.carries_token):
            return ""
        path = screen.path[:-1] if screen.ends and step.phase is Phase.INPUT else screen.path
        kept = Kept(place.origin, path, self._clock_ms(), place.offered, ended=screen.ends)
        if gateway.carries_token:
            return self._sealer.seal(kept, *_context(gateway, step))
        with contextlib.suppress(*([StoreDownError] if screen.ends else [])):  # what is done is done, and is told
            await self._store_session(gateway, step, kept)
        return ""

    async def _remember_dropped(self, step: Step, place: Place, screen: Screen) -> None:
        context = ("dropped", step.msisdn)
        with contextlib.suppress(StoreDownError):
            if place.offered is not None or not (step.inputs or step.tail):
                return  # not decided yet, or a first screen: there is nothing to go on with
            if not screen.ends and screen.depth:
                sealed = self._sealer.seal(Kept(place.origin, screen.path, self._clock_ms()), *context)
                await self._store.put(store_key(*context), sealed, RESUME_S_MAX)
            elif screen.outcome not in _OPEN_ENDS:
                await self._store.drop(store_key(*context))

    async def _dropped(self, step: Step, origin: Origin) -> Dropped | None:
        context = ("dropped", step.msisdn)
        kept = self._opened(await self._store.get(store_key(*context)), context, RESUME_S_MAX)
        return None if kept is None or kept.origin == origin else Dropped(kept.origin, kept.inputs)

    def _carried(self, gateway: Gateway, step: Step) -> Kept | None:
        return self._opened(step.token, _context(gateway, step), SESSION_S_MAX)

    async def _stored(self, gateway: Gateway, step: Step) -> Kept | None:
        context = _context(gateway, step)
        return self._opened(await self._store.get(store_key(*context)), context, SESSION_S_MAX)

    async def _store_session(self, gateway: Gateway, step: Step, kept: Kept) -> None:
        context = _context(gateway, step)
        await self._store.put(store_key(*context), self._sealer.seal(kept, *context), SESSION_S_MAX)

    def _opened(self, sealed: str | None, context: tuple[str, ...], seconds_max: int) -> Kept | None:
        if not sealed:
            return None
        return self._sealer.open(sealed, *context, now_ms=self._clock_ms(), age_ms_max=seconds_max * 1_000)


def chosen(place: Place) -> Place:
    """The place after the phone has said whether it goes on with what was dropped; the same while it has not."""
    dropped = place.offered
    if dropped is None:
        return place
    for at, raw in enumerate(place.inputs):
        if raw.strip() == GO_ON:
            return Place(dropped.origin, dropped.inputs + place.inputs[at + 1 :])
        if raw.strip() == START_AGAIN:
            return Place(place.origin, place.inputs[at + 1 :])
    return place


def _context(gateway: Gateway, step: Step) -> tuple[str, ...]:
    return ("session", gateway.name, step.session_id, step.msisdn)
