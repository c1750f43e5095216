"""How a stream of one process becomes the stdin or stdout of another one.

A stream object that can be handed over has a method `_hand_over`, which gives an `Offer`. The
receiver inherits the descriptor of the offer. Once it has been started the offer is accepted, and
what was offered is the receiver's; if the start fails the offer is withdrawn, and the stream is as
it was before.
"""

import io
from typing import Callable, List, Optional

from process._descriptor import Descriptor
from process.core._flow import Flow
from process.core.types import File


class Offer:
    """A stream that is about to be handed over.

    Args:
        descriptor: what the receiver inherits; closed by the caller that asked for the offer.
        flow: that of the process whose stream it is.
        prepare: called before the receiver is started, when the offer is known to the caller that
            is going to withdraw it.
        accepted: called once the receiver has been started.
        withdraw: called if it has not been. Harmless after `accept`, and when called twice.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        flow: Flow,
        prepare: Callable[[], object] = bool,
        accepted: Callable[[], object] = bool,
        withdraw: Callable[[], object] = bool,
    ) -> None:
        self.descriptor = descriptor
        self.prepare = prepare
        self.withdraw = withdraw
        self._flow = flow
        self._accepted = accepted

    def accept(self, flow: Flow) -> None:
        """The receiver, whose flow this is, has been started: the two processes are connected."""
        self._flow.connect(flow)
        self._accepted()


def given(file: Optional[File], offers: List[Offer]) -> Optional[File]:
    """What a child is given for `file`: an offer, added to `offers`, if it is another's stream.

    Raises:
        ValueError: the stream is closed.
        OSError: there are no descriptors left, or the stream belongs to a loop.
    """
    hand_over: Optional[Callable[[], Offer]] = getattr(file, "_hand_over", None)
    if hand_over is None:
        return file
    offers.append(hand_over())
    offers[-1].prepare()
    return offers[-1].descriptor.fileno()


def belongs_to_loop(name: str) -> io.UnsupportedOperation:
    """The error of a stream that cannot be handed over."""
    return io.UnsupportedOperation(
        f"{name} of an asyncio process belongs to its loop and has no descriptor to hand over; "
        "connect the two processes with os.pipe()"
    )
