-- Files of tenants. Their content is a blob outside of the database, under its hash, which several files may share.
CREATE TABLE file (
    id TEXT COLLATE "C" PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    purpose TEXT NOT NULL,
    name TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX file_tenant ON file (tenant, id);
CREATE INDEX file_sha256 ON file (sha256);
CREATE INDEX file_expires ON file (expires_at, id) WHERE expires_at IS NOT NULL;

-- What each tenant's files come to: the row is what changes of them wait for, so that no two together exceed a share.
CREATE TABLE file_usage (
    tenant TEXT COLLATE "C" PRIMARY KEY,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
