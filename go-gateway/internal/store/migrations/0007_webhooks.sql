-- Where tenants are told of events. events are types, separated by spaces. The secrets are kept as they are, since they sign:
-- old_secret beside the other one until old_until.
CREATE TABLE webhook (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL, -- 1, or 0
    disabled_for TEXT NOT NULL DEFAULT '', -- why it was disabled, where its tenant has not done so
    secret TEXT NOT NULL,
    old_secret TEXT NOT NULL DEFAULT '',
    old_until BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX webhook_tenant ON webhook (tenant, id);

-- The row that creating a webhook locks, so that no two together exceed how many a tenant may have.
CREATE TABLE webhook_limit (
    tenant TEXT COLLATE "C" PRIMARY KEY,
    created BIGINT NOT NULL
);

-- An event that a webhook is told of, by the job of this id. What is sent follows from the row alone: event, type, object and
-- event_at. attempts, status and error are those of all tries, and of the last one.
CREATE TABLE delivery (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    webhook TEXT COLLATE "C" NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    type TEXT NOT NULL,
    object TEXT COLLATE "C" NOT NULL,
    event_at BIGINT NOT NULL,
    state TEXT NOT NULL, -- pending, delivered or dead
    attempts BIGINT NOT NULL DEFAULT 0,
    status BIGINT NOT NULL DEFAULT 0, -- 0: there was no reply
    error TEXT NOT NULL DEFAULT '',
    tried_at BIGINT,
    next_at BIGINT, -- when it is tried again; by the clock of the gateway that tried
    ended_at BIGINT
);
CREATE INDEX delivery_webhook ON delivery (tenant, webhook, id);
CREATE INDEX delivery_pending ON delivery (event_at) WHERE state = 'pending';
CREATE INDEX delivery_ended ON delivery (ended_at) WHERE ended_at IS NOT NULL;
