"""OpenAI's Realtime protocol over one of our calls, without a network: our events in, its events out.

    what our call says  -> `handle_event`  -> events for the client (`drain`), commands for the call
    what the client says -> `handle_client` -> the same, and errors that name the client's event

This is the one place where the two vocabularies meet. A *response* stands for a reply that is owed or spoken: it
is created when a turn asks for one (or the client, or a program that speaks unasked), and it always ends in
`response.done`. An interruption is told in the order in which it happened: speech_started, output_audio_buffer
.cleared, response.done, conversation.item.truncated with what was heard.

The two directions share one state, and are read against each other.
Left out, and refused: sound in events (it is on the track), responses out of band or without sound, MCP, images.
Counting tokens is left out, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from stack.signaling.realtime_parts import (
    PROGRAM_FAILED,
    AddContext,
    AwaitReply,
    Clear,
    Commit,
    Configure,
    Event,
    EventRefused,
    FinishTool,
    HandOver,
    InterruptReply,
    Items,
    Response,
    SessionCommand,
    SpokenItems,
    copy_item,
    make_message,
    milliseconds,
    text_of,
    typed_turn,
    user_part,
)
from stack.signaling.realtime_schema import EVENTS, InvalidField, check_item
from stack.signaling.realtime_settings import (
    DEFAULT_SESSION,
    merge_session,
    read_response,
    read_tools,
    read_turns,
    update_session,
)
from stack.voice import events as ev
from stack.voice.turns import TurnMode

MAX_PENDING = 16
"""Turns that wait for a `response.create`; beyond that the oldest goes."""


class RealtimeSession:
    """One session. `ident` makes an identifier with the given prefix; `clock` is the wall clock."""

    def __init__(
        self, ident: Callable[[str], str], session: Mapping[str, Any], clock: Callable[[], float]
    ) -> None:
        self._ident, self._clock = ident, clock
        try:
            merged = merge_session(DEFAULT_SESSION, session)
        except InvalidField:
            merged = dict(DEFAULT_SESSION)
        self.session: Event = {**merged, "id": ident("sess"), "object": "realtime.session"}
        self.program_takes_turns: Callable[[], bool] = lambda: True
        self._settings = read_turns(self.session)
        self._items = Items()
        self._response: Response | None = None
        self._pending: dict[str, ev.Utterance] = {}  # by item; "": what stands in no item
        self._input_item: str | None = None
        self._spoken = SpokenItems()
        self._tools: dict[str, None] = {}  # requests that wait for their output
        self._outputs: dict[str, str] = {}
        self._drop_next = False
        self._owed = False
        self._last_reply = 0
        self._out: list[Event] = []
        self._commands: list[SessionCommand] = [Configure(self._settings, read_tools(self.session))]

    def drain(self) -> list[Event]:
        """Return the events for the client since the last call."""
        out, self._out = self._out, []
        return out

    def drain_commands(self) -> list[SessionCommand]:
        """Return what the call has to do since the last call."""
        commands, self._commands = self._commands, []
        return commands

    def greeting(self) -> Event:
        """Return what a client is told first."""
        return self._event("session.created", session=self.session)

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "event_id": self._ident("event"), **fields}

    def _emit(self, kind: str, **fields: Any) -> None:
        self._out.append(self._event(kind, **fields))

    # -- what the call says ----------------------------------------------------------------------------------

    def handle_event(self, event: ev.ConversationEvent) -> None:
        """Take an event of the call."""
        match event:
            case ev.UserStartedSpeaking():
                if self._settings.mode is not TurnMode.MANUAL:
                    self._input_item = self._input_item or self._ident("item")
                    start = milliseconds(event.media_time)
                    self._emit("input_audio_buffer.speech_started", audio_start_ms=start, item_id=self._input_item)
            case ev.UserStoppedSpeaking():
                if self._input_item is not None:
                    end = milliseconds(event.media_time)
                    self._emit("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=self._input_item)
            case ev.Utterance():
                self._on_utterance(event)
            case ev.ReplyStarted():
                self._on_reply_started(event.reply)
            case ev.ReplyText():
                self._on_reply_text(event.reply, event.text)
            case ev.ReplyFinished():
                self._on_reply_over(event.reply, event.heard_ms, interrupted=False)
            case ev.ReplyInterrupted():
                self._on_reply_over(event.reply, event.heard_ms, interrupted=True)
            case ev.UserTranscript() if not event.typed:
                self._on_transcript(event)
            case ev.ProgramMessage():
                self._emit("program.message", message=event.message)
            case ev.ProgramFailed():
                self._on_failure()
            case ev.ToolRequested():
                self._on_tool(event)
            case ev.UserIdle():
                self._on_idle()
            case ev.KeyPressed():
                received = int(self._clock())
                self._emit("input_audio_buffer.dtmf_event_received", event=event.digit, received_at=received)

    def _on_utterance(self, utterance: ev.Utterance) -> None:
        if utterance.is_typed:  # by a client that has our `events` channel, too
            item_id = self._ident("item")
        else:
            item_id, self._input_item = self._input_item or self._ident("item"), None
            self._spoken.add(item_id, utterance.media_time)
            self._emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=self._items.last)
        self._add_item(make_message(item_id, "user", [user_part(utterance)], "completed"), done=True)
        self._remember(item_id, utterance)
        asks = utterance.is_typed or self._settings.mode is not TurnMode.MANUAL
        if asks and self._settings.create_response:
            if self._response is not None and self._response.audible:
                self._owed = True  # speech does not interrupt here: the answer comes after what is being said
                return
            if self._response is not None:  # it was owed for an earlier turn, and nothing was said yet
                self._finish("cancelled", "turn_detected")
            if self.program_takes_turns():
                self._create_response()

    def _on_idle(self) -> None:
        item = self._ident("item")
        at = milliseconds(self._settings.idle_timeout_ms or 0) // 1000
        self._emit(
            "input_audio_buffer.timeout_triggered", item_id=item, audio_start_ms=0, audio_end_ms=at
        )  # fmt: skip

    def _on_failure(self) -> None:
        if self._response is not None:
            self._finish("failed")
        self._emit("error", error=dict(PROGRAM_FAILED))

    def _on_transcript(self, said: ev.UserTranscript) -> None:
        item_id, text = self._spoken.of(said.began), said.text
        spoken = self._items.get(item_id)
        if spoken is None:
            return
        kind = "conversation.item.input_audio_transcription"
        delta = self._spoken.take_transcript(said)
        if not said.final:
            if delta:
                self._emit(f"{kind}.delta", item_id=item_id, content_index=0, delta=delta)
            return
        spoken["content"][0]["transcript"] = text
        usage = {"type": "duration", "seconds": 0.0}
        self._emit(f"{kind}.completed", item_id=item_id, content_index=0, transcript=text, usage=usage)

    # -- responses -------------------------------------------------------------------------------------------

    def _create_response(self, metadata: Event | None = None) -> Response:
        """Begin a response, and let the program have what was said or typed since the last one."""
        response = self._response = Response(self._ident("resp"), metadata)
        self._drop_next = False
        self._emit("response.created", response=response.describe(self.session["id"], "in_progress"))
        self._commands.append(AwaitReply(response.id))
        pending, self._pending = self._pending, {}
        self._commands.extend(HandOver(utterance) for utterance in pending.values())
        return response

    def give_up(self, response_id: str) -> None:
        """The program has said nothing: the response ends without a word."""
        response = self._response
        if response is not None and response.id == response_id and response.reply is None:
            self._finish("completed")

    def _bind(self, reply: int) -> Response:
        response = self._response
        if response is not None and response.reply not in (None, reply):
            self._finish("completed")
            response = None
        response = response or self._create_response()
        if response.reply is None:
            response.reply = self._last_reply = reply
            item = response.message = make_message(self._ident("item"), "assistant", [], "in_progress")
            self._emit("response.output_item.added", item=copy_item(item), **response.place(item))
            self._add_item(item, done=False)
            part = {"type": "audio", "transcript": ""}
            self._emit("response.content_part.added", part=part, **response.part())
            item["content"].append({"type": "output_audio", "transcript": ""})
            response.output.append(item)
        return response

    def _on_reply_started(self, reply: int) -> None:
        if self._drop_next and self._response is None:  # the answer to a turn whose response was cancelled
            self._drop_next = False
            self._commands.append(InterruptReply())
            return
        response = self._bind(reply)
        response.audible = True
        self._emit("output_audio_buffer.started", response_id=response.id)

    def _on_reply_text(self, reply: int, text: str) -> None:
        if self._drop_next and self._response is None:
            return
        response = self._bind(reply)
        assert response.message is not None
        response.message["content"][0]["transcript"] += text
        self._emit("response.output_audio_transcript.delta", delta=text, **response.part())

    def _on_reply_over(self, reply: int, heard_ms: float, interrupted: bool) -> None:
        response = self._response
        if response is not None and response.reply is None and reply > self._last_reply:
            self._last_reply = reply  # a reply without a sound
            self._finish("cancelled" if interrupted else "completed", "turn_detected" if interrupted else None)
            return
        if response is None or response.reply != reply:
            return
        item = response.message
        assert item is not None
        if not interrupted:
            self._finish("completed")
            if response.audible:
                self._emit("output_audio_buffer.stopped", response_id=response.id)
            item["_heard"] = heard_ms
            self._pay()
            return
        if response.audible:
            self._emit("output_audio_buffer.cleared", response_id=response.id)
        self._finish("cancelled", "client_cancelled" if response.cancelled else "turn_detected")
        self._truncate(item, round(heard_ms))
        self._pay()

    def _pay(self) -> None:
        """Create the response that a turn has waited for while another was spoken."""
        owed, self._owed = self._owed, False
        if owed and self._response is None and self.program_takes_turns():
            self._create_response()

    def _finish(self, status: str, reason: str | None = None) -> None:
        response, self._response = self._response, None
        assert response is not None
        item = response.message
        if item is not None:
            transcript = item["content"][0]["transcript"]
            part = response.part()
            item["status"] = "completed" if status == "completed" else "incomplete"
            self._emit("response.output_audio.done", **part)
            self._emit("response.output_audio_transcript.done", transcript=transcript, **part)
            done = {"type": "audio", "transcript": transcript}
            self._emit("response.content_part.done", part=done, **part)
            self._emit("response.output_item.done", item=copy_item(item), **response.place(item))
            self._emit(
                "conversation.item.done", item=copy_item(item), previous_item_id=self._items.before(item["id"])
            )
        self._emit("response.done", response=response.describe(self.session["id"], status, reason))

    def _truncate(self, item: Event, audio_end_ms: int) -> None:
        item["content"][0].pop("transcript", None)  # which of the words were heard is not known
        item["_heard"] = audio_end_ms
        self._emit("conversation.item.truncated", item_id=item["id"], content_index=0, audio_end_ms=audio_end_ms)

    # -- functions of the client -----------------------------------------------------------------------------

    def _on_tool(self, event: ev.ToolRequested) -> None:
        response = self._response or self._create_response()
        item = {
            "id": self._ident("item"),
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "call_id": event.request,
            "name": event.name,
            "arguments": "",
        }
        place = response.place(item)
        self._emit("response.output_item.added", item=copy_item(item), **place)
        self._add_item(item, done=False)
        call = {**place, "item_id": item["id"], "call_id": event.request}
        self._emit("response.function_call_arguments.delta", delta=event.arguments, **call)
        self._emit("response.function_call_arguments.done", arguments=event.arguments, name=event.name, **call)
        item.update(arguments=event.arguments, status="completed")
        self._emit("response.output_item.done", item=copy_item(item), **place)
        self._emit(
            "conversation.item.done", item=copy_item(item), previous_item_id=self._items.before(str(item["id"]))
        )
        response.output.append(item)
        self._tools[event.request] = None
        if response.reply is None:  # otherwise it ends with the reply that is being spoken
            self._finish("completed")

    # -- what the client says --------------------------------------------------------------------------------

    def handle_client(self, message: object) -> Event | None:
        """Take an event of the client; return the error event that is for it alone, if it was not understood."""
        event_id = message.get("event_id") if isinstance(message, dict) else None
        try:
            if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                raise EventRefused("an event is a JSON object with a type", "invalid_event", "type")
            handler = self._HANDLERS.get(message["type"])
            if handler is None:
                raise EventRefused(f"unknown event type {message['type'][:64]!r}", "unknown_event", "type")
            EVENTS[message["type"]].check(message, "")
            handler(self, message)
        except EventRefused as refusal:
            return self._error(refusal, event_id)
        except InvalidField as error:
            return self._error(EventRefused(str(error), error.code, error.param), event_id)
        return None

    def tool_finished(self, request: str) -> None:
        """The program has got the output of a function."""
        self._outputs.pop(request, None)

    def refuse(self, event_id: str | None) -> Event:
        """Return the error for a commit of nothing."""
        return self._error(
            EventRefused("there is nothing in the input buffer", "input_audio_buffer_commit_empty"), event_id
        )

    def _error(self, refusal: EventRefused, event_id: object) -> Event:
        error = {
            "type": "invalid_request_error",
            "code": refusal.code,
            "message": refusal.message,
            "param": refusal.param,
            "event_id": event_id if isinstance(event_id, str) else None,
        }
        return self._event("error", error=error)

    def _session_update(self, message: Event) -> None:
        self.session = update_session(self.session, message["session"])
        self._settings = read_turns(self.session)
        self._commands.append(Configure(self._settings, read_tools(self.session), self.session))
        self._emit("session.updated", session=self.session)

    def _append(self, message: Event) -> None:
        raise EventRefused("the sound of this call comes on its track", "not_supported", "type")

    def _commit(self, message: Event) -> None:
        event_id = message.get("event_id")
        self._commands.append(Commit(event_id if isinstance(event_id, str) else None))

    def _clear(self, message: Event) -> None:
        self._input_item = None
        self._commands.append(Clear())
        self._emit("input_audio_buffer.cleared")

    def _item_create(self, message: Event) -> None:
        given, previous = check_item(message["item"]), message.get("previous_item_id")
        item = {**given, "id": given.get("id") or self._ident("item"), "object": "realtime.item"}
        item["status"] = "completed"
        if item["id"] in self._items:
            raise EventRefused("an item's id is a string that is not taken", "invalid_value", "item.id")
        if previous not in (None, "root") and previous not in self._items:
            raise EventRefused("there is no such item", "item_not_found", "previous_item_id")
        if item["type"] == "function_call_output":
            call_id = item["call_id"]
            if call_id not in self._tools:
                message_ = f"Tool call ID {call_id[:64]!r} not found in conversation."
                raise EventRefused(message_, "invalid_tool_call_id", "item.call_id")
            del self._tools[call_id]
            self._outputs[call_id] = item["output"]
            self._commands.append(FinishTool(call_id, item["output"], soon=True))
        elif text := text_of(item):
            is_last = previous is None or previous == self._items.last
            if item["role"] == "user" and is_last:
                self._remember(item["id"], typed_turn(text))
            else:  # it is no turn to be answered, but the program may want to know it
                self._commands.append(AddContext(item["role"], text))
        self._add_item(item, done=True, after=previous)

    def _remember(self, item_id: str, utterance: ev.Utterance) -> None:
        """Keep a turn for the next response."""
        self._pending[item_id] = utterance
        while len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]

    def _item_retrieve(self, message: Event) -> None:
        self._emit("conversation.item.retrieved", item=copy_item(self._items.known(message["item_id"])))

    def _item_delete(self, message: Event) -> None:
        item = self._items.known(message["item_id"])
        self._items.remove(item["id"])
        self._pending.pop(item["id"], None)
        self._emit("conversation.item.deleted", item_id=item["id"])

    def _item_truncate(self, message: Event) -> None:
        item, at = self._items.known(message["item_id"]), message["audio_end_ms"]
        content = item.get("content") or [{}]
        if item.get("role") != "assistant" or content[0].get("type") != "output_audio":
            raise EventRefused("only what was said aloud can be truncated", "invalid_value", "item_id")
        if message["content_index"] != 0:
            raise EventRefused("the item has one part, of index 0", "invalid_value", "content_index")
        if self._response is not None and self._response.message is item:
            self._response.cancelled = True  # what was really heard is told when it has stopped
            self._commands.append(InterruptReply())
        elif at > item.get("_heard", at):
            raise EventRefused("the item's audio is shorter than that", "invalid_value", "audio_end_ms")
        else:
            self._truncate(item, at)

    def _response_create(self, message: Event) -> None:
        request, metadata = read_response(message.get("response") or {})
        if self._response is not None:
            raise EventRefused(
                "a response is being made already", "conversation_already_has_active_response"
            )  # fmt: skip
        if self._outputs and request and not self._pending:  # the program goes on where it waits for the output
            name = next(iter(request))
            raise EventRefused(
                "a function's output is answered as the session says", "invalid_value", f"response.{name}"
            )
        if request.get("instructions") and not self._pending:
            self._remember("", typed_turn(request["instructions"]))
        if self._pending:
            newest = next(reversed(self._pending))
            self._pending[newest] = structs.replace(self._pending[newest], request=request)
        outputs, self._outputs = self._outputs, {}
        expected = bool(self._pending or outputs)
        response = self._create_response(metadata)
        self._commands.extend(FinishTool(request, output, soon=False) for request, output in outputs.items())
        if not expected or not self.program_takes_turns():
            self.give_up(response.id)

    def _response_cancel(self, message: Event) -> None:
        response = self._response
        if response is None or message.get("response_id") not in (None, response.id):
            raise EventRefused("there is no such response to be cancelled", "response_cancel_not_active")
        response.cancelled = True
        self._commands.append(InterruptReply())
        if response.reply is None:
            self._drop_next = True
            self._finish("cancelled", "client_cancelled")

    def _output_clear(self, message: Event) -> None:
        if self._response is not None and self._response.audible:
            self._response.cancelled = True
            self._commands.append(InterruptReply())

    _HANDLERS: Mapping[str, Callable[[RealtimeSession, Event], None]] = {
        "session.update": _session_update,
        "input_audio_buffer.append": _append,
        "input_audio_buffer.commit": _commit,
        "input_audio_buffer.clear": _clear,
        "conversation.item.create": _item_create,
        "conversation.item.retrieve": _item_retrieve,
        "conversation.item.delete": _item_delete,
        "conversation.item.truncate": _item_truncate,
        "response.create": _response_create,
        "response.cancel": _response_cancel,
        "output_audio_buffer.clear": _output_clear,
    }

    # -- items -----------------------------------------------------------------------------------------------

    def _add_item(self, item: Event, *, done: bool, after: str | None = None) -> None:
        previous = self._items.add(item, after)
        self._emit("conversation.item.added", item=copy_item(item), previous_item_id=previous)
        if done:
            self._emit("conversation.item.done", item=copy_item(item), previous_item_id=previous)
