-- Administrative acts, each written in the transaction that it tells of. The oldest go when there are too many.
CREATE TABLE audit_entry (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    author TEXT NOT NULL,
    act TEXT NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    details TEXT NOT NULL
);
