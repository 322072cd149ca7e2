"""What happens to a card, by its payment method: the script of the simulation, as data."""

from dataclasses import dataclass
from typing import Final

from contract.reasons import CARD_DECLINED, INSUFFICIENT_FUNDS


@dataclass(frozen=True)
class Method:
    """How charges and refunds of one payment method go."""

    decline_reason: str = ""
    """Declined with this reason; empty for approved."""
    delay_s: float = 0.0
    """How long the decision takes. It is taken even if the caller has gone by then."""
    charge_failures: int = 0
    """How many first attempts to charge are UNAVAILABLE, without effect."""
    loses_first_reply: bool = False
    """The caller that made the charge never hears of it."""
    refund_failures: int = 0
    """How many first attempts to refund are UNAVAILABLE, without effect."""
    refuses_refunds: bool = False

    @property
    def decides_at_once(self) -> bool:
        """Whether nothing comes before the decision."""
        return not (self.delay_s or self.charge_failures)


METHODS: Final = {
    "pm_card_ok": Method(),
    "pm_card_declined": Method(decline_reason=CARD_DECLINED),
    "pm_card_insufficient_funds": Method(decline_reason=INSUFFICIENT_FUNDS),
    "pm_card_slow": Method(delay_s=5.0),
    "pm_card_flaky": Method(charge_failures=2),
    "pm_card_lost_reply": Method(loses_first_reply=True),
    "pm_card_refund_flaky": Method(refund_failures=2),
    "pm_card_refund_refused": Method(refuses_refunds=True),
}
