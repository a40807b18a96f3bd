CREATE TABLE schema_version (
    version BIGINT PRIMARY KEY,
    applied_at BIGINT NOT NULL
);

-- How often something changed: gateways ask for this number, and read the rest when it is another one.
CREATE TABLE change_counter (
    topic TEXT PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO change_counter (topic, version) VALUES ('keys', 0);

CREATE TABLE api_key (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    sha256 TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    replaced_by TEXT COLLATE "C"
);
CREATE INDEX api_key_tenant ON api_key (tenant, created_at, id);
