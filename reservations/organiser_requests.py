"""Organisers' writes have one effect however often they are sent: the request_id is stored with what it did."""

from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

from google.protobuf.message import Message

from chassis.callers import Caller
from chassis.errors import already_exists
from contract import reasons
from reservations.store import organiser_requests as store
from reservations.store.books import Connection


@dataclass(slots=True, frozen=True)
class Claim:
    """A request_id, the call and a digest of everything else in it, what it is about, who asks, and why, if he says."""

    request_id: UUID
    call: str
    body_hash: bytes
    subject_id: UUID
    caller: Caller
    reason: str

    @property
    def rpc(self) -> str:
        """The call's name in the contract."""
        return self.call.rpartition(".")[2].removesuffix("Request")


def claim_of(request: Message, subject_id: UUID, caller: Caller) -> Claim:
    """The claim of a request whose request_id is known to be a UUID."""
    body = type(request)()
    body.CopyFrom(request)
    request_id = UUID(body.request_id)  # type: ignore[attr-defined] # every organiser's request has one
    body.ClearField("request_id")
    # The type's name is the RPC's: one request_id never names two different calls.
    call = request.DESCRIPTOR.full_name
    content = call.encode() + b"\0" + body.SerializeToString(deterministic=True)
    reason = getattr(request, "reason", "")
    return Claim(request_id, call, blake2b(content, digest_size=32).digest(), subject_id, caller, reason)


async def is_first(conn: Connection, claim: Claim, *, ticket_count: int = 0) -> bool:
    """Whether the effect is still to be had, in this transaction; concurrent ones with the same request_id wait for it.

    `ticket_count` is how many tickets that effect adds: the request is stored with it, once and for all.

    Raises CallError (ALREADY_EXISTS, REQUEST_ID_REUSED) when the request_id already stands for another request.
    """
    if await store.insert(
        conn,
        claim.request_id,
        call=claim.call,
        body_hash=claim.body_hash,
        subject_id=claim.subject_id,
        ticket_count=ticket_count,
        asked_by=claim.caller.subject,
        reason=claim.reason,
    ):
        return True
    stored = await store.find(conn, claim.request_id)
    if stored is None or stored.body_hash != claim.body_hash:
        raise already_exists(
            reasons.REQUEST_ID_REUSED, f"request_id {claim.request_id} was used for another request; make a new one"
        )
    return False


async def tickets_added(conn: Connection, claim: Claim) -> int:
    """How many tickets the request added when it had its effect."""
    stored = await store.find(conn, claim.request_id)
    return stored.ticket_count if stored else 0
