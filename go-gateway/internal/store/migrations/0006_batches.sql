-- Requests of a file that are run later. ended_at is NULL as long as there is something to do: until then the file's content,
-- sha256, is kept whatever becomes of the file. pending counts the segments that have no result yet, enqueued the bytes of
-- their lines, which bound their tokens. scopes are those of the key that created it, and plan what its tenant had then.
CREATE TABLE batch (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    scopes TEXT NOT NULL,
    plan TEXT NOT NULL,
    file TEXT COLLATE "C" NOT NULL,
    sha256 TEXT COLLATE "C" NOT NULL,
    bytes BIGINT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    metadata TEXT NOT NULL,
    state TEXT NOT NULL, -- in_progress, finalizing, completed, failed, expired, cancelling or cancelled
    lines BIGINT NOT NULL,
    pending BIGINT NOT NULL,
    enqueued BIGINT NOT NULL,
    done BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    input_tokens BIGINT NOT NULL DEFAULT 0,
    cached_tokens BIGINT NOT NULL DEFAULT 0,
    output_tokens BIGINT NOT NULL DEFAULT 0,
    output TEXT COLLATE "C" NOT NULL DEFAULT '',
    errors TEXT COLLATE "C" NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    version BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    expired_at BIGINT,
    cancelling_at BIGINT,
    finalizing_at BIGINT,
    ended_at BIGINT
);
CREATE INDEX batch_tenant ON batch (tenant, id);
CREATE INDEX batch_open ON batch (sha256) WHERE ended_at IS NULL;
CREATE INDEX batch_ended ON batch (ended_at) WHERE ended_at IS NOT NULL;

-- Lines of a batch that are run together: a range of bytes of its file. n is the index of the first. What came of them are
-- blobs, named until the batch has ended: replies in output, refusals in errors. attempt is that of the job that wrote them.
CREATE TABLE segment (
    batch TEXT COLLATE "C" NOT NULL,
    n BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    at BIGINT NOT NULL,
    length BIGINT NOT NULL,
    duplicates TEXT NOT NULL, -- indices of lines whose custom_id an earlier line has, separated by spaces
    state TEXT NOT NULL, -- pending, done or skipped
    output TEXT COLLATE "C" NOT NULL DEFAULT '',
    output_bytes BIGINT NOT NULL DEFAULT 0,
    errors TEXT COLLATE "C" NOT NULL DEFAULT '',
    errors_bytes BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    tokens BIGINT NOT NULL DEFAULT 0,
    attempt BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (batch, n)
);
CREATE INDEX segment_output ON segment (output) WHERE output <> '';
CREATE INDEX segment_errors ON segment (errors) WHERE errors <> '';

-- The row that creating a batch locks, so that no two together exceed a limit of their tenant.
CREATE TABLE batch_limit (
    tenant TEXT COLLATE "C" PRIMARY KEY,
    created BIGINT NOT NULL
);
