-- Jobs of moderation whose texts are judged by two thresholds, of which the store reads nothing; '': the job has none. inputs is how
-- many texts there are, and verdict what came of all of them once the job has ended.
ALTER TABLE async_job ADD COLUMN thresholds TEXT NOT NULL DEFAULT '';
ALTER TABLE async_job ADD COLUMN inputs BIGINT NOT NULL DEFAULT 0;
ALTER TABLE async_job ADD COLUMN verdict TEXT NOT NULL DEFAULT '';

-- Texts that people are asked about: one row for an input of a job, written in the transaction that ends it. content is a blob,
-- by its hash: the texts, which all rows of the job share. decided_at is NULL until somebody has decided.
CREATE TABLE moderation_review (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    job TEXT COLLATE "C" NOT NULL,
    input BIGINT NOT NULL,
    thresholds TEXT NOT NULL,
    category TEXT NOT NULL, -- the one with the highest score
    score TEXT NOT NULL,
    content TEXT COLLATE "C" NOT NULL,
    content_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    decision TEXT NOT NULL DEFAULT '', -- passed or flagged
    note TEXT NOT NULL DEFAULT '',
    decided_by TEXT COLLATE "C" NOT NULL DEFAULT '', -- the id of a key
    decided_at BIGINT,
    forget_at BIGINT NOT NULL
);
CREATE INDEX moderation_review_tenant ON moderation_review (tenant, id);
CREATE INDEX moderation_review_pending ON moderation_review (tenant, id) WHERE decided_at IS NULL;
CREATE INDEX moderation_review_oldest ON moderation_review (created_at) WHERE decided_at IS NULL;
CREATE INDEX moderation_review_forget ON moderation_review (forget_at);
CREATE INDEX moderation_review_content ON moderation_review (content);

-- How many of a tenant's texts wait for people, or may come to: the inputs of jobs that have not ended, and what is not decided.
ALTER TABLE batch_limit ADD COLUMN reviews BIGINT NOT NULL DEFAULT 0;

-- What an event says of its object, as JSON; '': its id alone.
ALTER TABLE delivery ADD COLUMN data TEXT NOT NULL DEFAULT '';
