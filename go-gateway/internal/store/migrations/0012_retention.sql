-- For how long, in milliseconds, the files of a batch are kept that come out, as far as its tenant said; 0: it did not. From forget_at on
-- a batch that has ended is removed: it was after 30 days before plans could say.
ALTER TABLE batch ADD COLUMN output_lifetime BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN forget_at BIGINT;
UPDATE batch SET forget_at = ended_at + 2592000000 WHERE ended_at IS NOT NULL;
DROP INDEX batch_ended;
CREATE INDEX batch_forget ON batch (forget_at) WHERE forget_at IS NOT NULL;
