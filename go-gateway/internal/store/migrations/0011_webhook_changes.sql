-- When a webhook was changed last. (Its description is what the API calls its name.)
ALTER TABLE webhook ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
