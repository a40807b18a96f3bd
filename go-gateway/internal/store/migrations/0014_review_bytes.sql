-- How many bytes the texts of reviews come to: the bodies of jobs that have not ended and may have people asked, and the contents of
-- which a text waits.
ALTER TABLE batch_limit ADD COLUMN review_bytes BIGINT NOT NULL DEFAULT 0;
UPDATE batch_limit SET review_bytes =
    coalesce((SELECT sum(body_bytes) FROM async_job WHERE async_job.tenant = batch_limit.tenant AND ended_at IS NULL AND inputs > 0), 0)
    + coalesce((SELECT sum(bytes) FROM (SELECT tenant, max(content_bytes) AS bytes FROM moderation_review
        WHERE decided_at IS NULL GROUP BY tenant, job) AS waiting WHERE waiting.tenant = batch_limit.tenant), 0);
