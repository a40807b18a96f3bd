-- What work that outlasts a process has used: written in the transaction that ends the work, and told to the limits by its
-- id afterwards. day is that of UTC, since 1970. settled_at is NULL until the limits have been told.
CREATE TABLE charge (
    id TEXT COLLATE "C" PRIMARY KEY, -- of the work: a batch and a segment's number, or a job
    tenant TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    class TEXT NOT NULL, -- interactive or batch
    tokens BIGINT NOT NULL,
    day BIGINT NOT NULL,
    settled_at BIGINT
);
CREATE INDEX charge_day ON charge (day, id);
CREATE INDEX charge_unsettled ON charge (id) WHERE settled_at IS NULL;
