-- Who asked for a change of the catalogue or a refund; of those there are already nobody knows any more.

ALTER TABLE organiser_request ADD COLUMN asked_by text NOT NULL DEFAULT '';
