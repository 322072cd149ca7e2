-- Who created an event, and alone (but for operators) may change it. The events there are already stay operators' own.

ALTER TABLE event ADD COLUMN organiser_id text NOT NULL DEFAULT '';
