-- Work that outlasts a process. attempt counts claims, and is the fence of whoever has the job; deaths are claims whose
-- lease ran out, errors those that failed. due_at is the end of the lease of 'leased', and of the wait of 'later'.
CREATE TABLE job (
    id TEXT COLLATE "C" PRIMARY KEY,
    queue TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    args TEXT NOT NULL,
    priority BIGINT NOT NULL,
    state TEXT NOT NULL, -- ready, leased, later, done or dead
    owner TEXT NOT NULL DEFAULT '',
    attempt BIGINT NOT NULL DEFAULT 0,
    deaths BIGINT NOT NULL DEFAULT 0,
    errors BIGINT NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    ended_at BIGINT
);
-- One index a state: what waits or is done is never read on the way to what is ready.
CREATE INDEX job_ready ON job (queue, priority, tenant, id) WHERE state = 'ready';
CREATE INDEX job_leased ON job (due_at, queue) WHERE state = 'leased';
CREATE INDEX job_later ON job (due_at, queue) WHERE state = 'later';
CREATE INDEX job_done ON job (ended_at) WHERE state = 'done';
CREATE INDEX job_dead ON job (tenant, id) WHERE state = 'dead';
