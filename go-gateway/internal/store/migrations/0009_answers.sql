-- What creations were answered, under the Idempotency-Keys of their requests. A row is written in the transaction that creates,
-- so that neither is there without the other. request tells what was asked, as hashes; resource is the id of what was created.
CREATE TABLE answer (
    tenant TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    request TEXT NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    status BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, route, key)
);
CREATE INDEX answer_created ON answer (created_at);
