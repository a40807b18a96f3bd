-- What a key is restricted to, as in 'endpoint:/v1/embeddings model:all-minilm-l6-v2', separated by spaces; '' is nothing.
ALTER TABLE api_key ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
