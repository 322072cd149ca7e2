-- The holds that a buyer has not paid are counted before another begins (reservations/domain/model.py, OPEN_HOLDS_MAX).

CREATE INDEX reservation_hold_by_buyer ON reservation (buyer_id, event_id) WHERE state IN ('HELD', 'PARTIALLY_PAID');
