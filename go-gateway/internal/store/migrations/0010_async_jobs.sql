-- Jobs of the API: single requests that are run later, each by the queue's job of the same id. Until state is another than 'open',
-- it is that job's which says whether it waits or runs. body and result are blobs, by their hashes: what is asked, and what was
-- replied; body is '' once the job need not be run again. alone is the number of deaths that its queue's job had when it was last
-- begun alone in its gateway; 0: it never was. status is that of the reply, 0 where there is none; error_code and
-- error are then why.
CREATE TABLE async_job (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    scopes TEXT NOT NULL,
    plan TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    metadata TEXT NOT NULL,
    body TEXT COLLATE "C" NOT NULL,
    body_bytes BIGINT NOT NULL,
    alone BIGINT NOT NULL DEFAULT 0,
    state TEXT NOT NULL, -- open, completed, failed, cancelled or expired
    result TEXT COLLATE "C" NOT NULL DEFAULT '',
    result_bytes BIGINT NOT NULL DEFAULT 0,
    status BIGINT NOT NULL DEFAULT 0,
    error_code TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    input_tokens BIGINT NOT NULL DEFAULT 0,
    cached_tokens BIGINT NOT NULL DEFAULT 0,
    output_tokens BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    forget_at BIGINT
);
CREATE INDEX async_job_tenant ON async_job (tenant, id);
CREATE INDEX async_job_expires ON async_job (expires_at) WHERE ended_at IS NULL;
CREATE INDEX async_job_forget ON async_job (forget_at) WHERE forget_at IS NOT NULL;
CREATE INDEX async_job_body ON async_job (body) WHERE body <> '';
CREATE INDEX async_job_result ON async_job (result) WHERE result <> '';

-- What a tenant's jobs that have not ended come to, beside its batches.
ALTER TABLE batch_limit ADD COLUMN jobs BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batch_limit ADD COLUMN job_bytes BIGINT NOT NULL DEFAULT 0;
CREATE INDEX batch_of_open ON batch (tenant) WHERE ended_at IS NULL;
