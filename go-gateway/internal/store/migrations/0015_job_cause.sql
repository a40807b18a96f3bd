-- The span that had the job done, as W3C Trace Context has it (55 letters); empty: it was not recorded.
ALTER TABLE job ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';
